//! The type of a package.

/// The type of a package: what `Type` in its `publish.yaml` says, and the registries' lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackageKind {
    /// Code that the command line client loads and runs.
    Component,
    /// Code that runs before or after a component.
    Plugin,
    /// A template of a project. `Application` in edition 2, `Project` in edition 3.
    Application,
}

impl PackageKind {
    /// The type that a word or a number of the registry stands for; `None` for any other text. Case does not count.
    pub fn of(text: &str) -> Option<Self> {
        let is_one_of = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        match () {
            () if is_one_of(&["1", "Component"]) => Some(Self::Component),
            () if is_one_of(&["2", "Plugin"]) => Some(Self::Plugin),
            () if is_one_of(&["3", "Project", "Application"]) => Some(Self::Application),
            () => None,
        }
    }

    /// The word of the 3.x registry.
    pub fn registry_word(self) -> &'static str {
        match self {
            Self::Component => "Component",
            Self::Plugin => "Plugin",
            Self::Application => "Project",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_read_from_words_of_both_editions_and_from_numbers() {
        for (text, word) in [
            ("Component", Some("Component")),
            ("component", Some("Component")),
            ("1", Some("Component")),
            ("PLUGIN", Some("Plugin")),
            ("2", Some("Plugin")),
            ("Project", Some("Project")),
            ("Application", Some("Project")),
            ("3", Some("Project")),
            ("", None),
            ("4", None),
            ("Components", None),
        ] {
            assert_eq!(PackageKind::of(text).map(PackageKind::registry_word), word, "{text}");
        }
    }
}
