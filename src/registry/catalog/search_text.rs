//! What a search finds packages by: their names and descriptions in lower case, in one text that is made once for each
//! catalog and searched at the speed of memory.

use std::iter;

use memchr::memmem::Finder;

/// Ends each name and each description. No search text contains it, so none matches across two of them.
const TEXT_END: char = '\0';

/// Names and descriptions of packages, in lower case.
#[derive(Debug, Default)]
pub(crate) struct SearchTexts {
    text: String,
    /// Where the text of each package ends.
    ends: Vec<usize>,
}

/// What is searched for, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SearchWords(String);

impl SearchTexts {
    /// Adds a package after the last one.
    pub(crate) fn push(&mut self, name: &str, description: Option<&str>) {
        for part in [name, description.unwrap_or_default()] {
            self.text.push_str(&part.to_lowercase());
            self.text.push(TEXT_END);
        }
        self.ends.push(self.text.len());
    }

    /// The indices, from `start` on and in order, of the packages that have the words in name or description. Without
    /// words every package is found.
    pub(crate) fn find<'t>(&'t self, words: &'t SearchWords, start: usize) -> impl Iterator<Item = usize> + 't {
        let finder = Finder::new(&words.0);
        let mut next = start;
        iter::from_fn(move || {
            if next >= self.ends.len() {
                return None;
            }
            let begin = next.checked_sub(1).map_or(0, |before| self.ends[before]);
            let hit = begin + finder.find(&self.text.as_bytes()[begin..])?;
            let place = next + self.ends[next..].partition_point(|end| *end <= hit);
            next = place + 1;
            Some(place)
        })
    }
}

impl SearchWords {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_lowercase().replace(TEXT_END, " "))
    }

    /// True when a package has them in its name or description. Without words every package has them.
    pub(crate) fn are_in(&self, name: &str, description: Option<&str>) -> bool {
        let mut texts = SearchTexts::default();
        texts.push(name, description);
        texts.find(self, 0).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_name_and_description_without_their_case_and_not_across_both() {
        let is_found = |words: &str| SearchWords::new(words).are_in("github:devsapp/fc3", Some("Über Functions"));
        for found in ["", "FC3", "sapp/f", "github:", "über", "FUNC"] {
            assert!(is_found(found), "{found}");
        }
        for missing in ["fc3ü", "fc4", "fc3 über", "fc3\0über"] {
            assert!(!is_found(missing), "{missing}");
        }
    }

    #[test]
    fn a_search_finds_each_package_once_and_begins_where_it_is_told_to() {
        let mut texts = SearchTexts::default();
        for (name, description) in [("aa/a", Some("aaa")), ("b", None), ("c", Some("")), ("ba", Some("x"))] {
            texts.push(name, description);
        }
        let find = |words: &str, start| texts.find(&SearchWords::new(words), start).collect::<Vec<_>>();
        assert_eq!(find("a", 0), [0, 3]);
        assert_eq!(find("a", 1), [3]);
        assert_eq!(find("", 0), [0, 1, 2, 3]);
        assert_eq!(find("", 3), [3]);
        assert_eq!(find("b", 0), [1, 3]);
        assert_eq!(find("a", 4), [] as [usize; 0]);
        assert_eq!(find("aaab", 0), [] as [usize; 0], "not across two packages");
    }
}
