//! Fuzz target: versions, names and paths of folders.

use super::{FolderPath, NameForm, PackageName, Version, semantic, with_v_toggled};

/// A text that is read as a version, a package's name and the path of a folder.
///
/// # Panics
/// When what was parsed does not print as what it was parsed from.
pub fn version(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(version) = text.parse::<Version>() {
        assert!(!version.name().contains(|c: char| c.is_control() || c == '\\'));
        assert_eq!(version.to_string().parse::<Version>().as_ref(), Ok(&version));
    }
    if let Some(version) = semantic(text) {
        assert_eq!(semantic(&version.to_string()).as_ref(), Some(&version));
    }
    if let Some(other) = with_v_toggled(text) {
        let back = with_v_toggled(&other).expect("its digit is still there");
        assert_eq!(with_v_toggled(&back).as_ref(), Some(&other));
    }
    for form in [NameForm::Plain, NameForm::Repository] {
        if let Ok(name) = PackageName::parse_as(form, text) {
            assert_eq!(PackageName::parse_as(form, &name.to_string()).as_ref(), Ok(&name));
            let folded = PackageName::parse_as(form, &name.folded()).expect("a name in lower case is a name");
            assert_eq!(folded.folded(), name.folded());
        }
    }
    if let Ok(folder) = text.parse::<FolderPath>() {
        assert_eq!(folder.as_str(), text);
        assert!(text.split('/').all(|part| !matches!(part, "" | "." | "..")));
    }
}
