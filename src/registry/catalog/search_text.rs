//! What a search finds packages by: name and description in lower case, made once for each catalog.

/// Name and description of a package, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchText(Box<str>);

/// What is searched for, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchWords(String);

impl SearchText {
    pub(crate) fn new(name: &str, description: Option<&str>) -> Self {
        // A search contains no zero byte, so it does not match across name and description.
        Self(format!("{name}\0{}", description.unwrap_or_default()).to_lowercase().into())
    }
}

impl SearchWords {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    /// True when a package has them in its name or description. Without words every package is found.
    pub(crate) fn are_in(&self, text: &SearchText) -> bool {
        self.0.is_empty() || text.0.contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_name_and_description_without_their_case_and_not_across_both() {
        let text = SearchText::new("github:devsapp/fc3", Some("Über Functions"));
        for found in ["", "FC3", "sapp/f", "github:", "über", "FUNC"] {
            assert!(SearchWords::new(found).are_in(&text), "{found}");
        }
        for missing in ["fc3ü", "fc4", "fc3 über"] {
            assert!(!SearchWords::new(missing).are_in(&text), "{missing}");
        }
    }
}
