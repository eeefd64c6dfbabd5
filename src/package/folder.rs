//! Folders of repositories, which an alias makes packages of their own.

use std::{fmt, str::FromStr};

use super::{PackageId, PackageName};

/// Longest accepted path of a folder, in bytes.
const MAX_FOLDER_PATH_BYTES: usize = 1024;

/// A folder of a repository: `apps/start`, without a slash at either end. Compares exactly, as git does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FolderPath(String);

/// Why a text is no path of a folder. It completes the sentence "the path of the folder …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FolderPathError {
    /// Nothing stands after the slashes.
    #[error("is missing")]
    Empty,
    /// It begins with a slash.
    #[error("begins with a slash")]
    Absolute,
    /// There are two slashes in a row, or one at its end.
    #[error("has an empty part")]
    EmptyPart,
    /// A part is `.` or `..`.
    #[error("has a part that is . or ..")]
    DotPart,
    /// It has a backslash, a colon or a control character.
    #[error("has a backslash, a colon or a control character")]
    Character,
    /// It has more than 1024 bytes.
    #[error("is longer than {max} bytes", max = MAX_FOLDER_PATH_BYTES)]
    TooLong,
}

impl FolderPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for FolderPath {
    type Err = FolderPathError;

    /// Parses a path that stays below the root of a repository on every system.
    fn from_str(text: &str) -> Result<Self, FolderPathError> {
        let is_odd = |c: char| c.is_control() || matches!(c, '\\' | ':');
        match text {
            "" => Err(FolderPathError::Empty),
            _ if text.len() > MAX_FOLDER_PATH_BYTES => Err(FolderPathError::TooLong),
            _ if text.starts_with('/') => Err(FolderPathError::Absolute),
            _ if text.split('/').any(str::is_empty) => Err(FolderPathError::EmptyPart),
            _ if text.split('/').any(|part| matches!(part, "." | "..")) => Err(FolderPathError::DotPart),
            _ if text.contains(is_odd) => Err(FolderPathError::Character),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for FolderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder of a repository that an alias names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderPackage {
    /// The alias: a plain name in the spelling of the configuration.
    pub alias: PackageName,
    /// The repository, on a forge. Access is decided for it.
    pub repository: PackageId,
    /// The folder.
    pub path: FolderPath,
}

impl FolderPackage {
    /// `upstream:owner/repo//path`, as the configuration writes it.
    pub fn spec(&self) -> String {
        format!("{}//{}", self.repository.spec(), self.path)
    }

    /// The names that its tags may begin with, in order of preference: the last part of the path, then the alias.
    pub fn tag_names(&self) -> impl Iterator<Item = &str> {
        let names = [self.path.last_part(), self.alias.base_name()];
        let count = if names[0] == names[1] { 1 } else { 2 };
        names.into_iter().take(count)
    }
}

impl fmt::Display for FolderPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (folder {} of {})", self.alias, self.path, self.repository.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_path_stays_below_the_root_on_every_system() {
        for text in ["x", "apps/x", "apps/x.y/\u{4e2d}", "...", "a b", ".github"] {
            assert_eq!(text.parse::<FolderPath>().map(|path| path.to_string()).as_deref(), Ok(text), "{text}");
        }
        for (text, error) in [
            ("", FolderPathError::Empty),
            ("/x", FolderPathError::Absolute),
            ("/", FolderPathError::Absolute),
            ("a//x", FolderPathError::EmptyPart),
            ("a/", FolderPathError::EmptyPart),
            ("..", FolderPathError::DotPart),
            ("a/../x", FolderPathError::DotPart),
            ("./x", FolderPathError::DotPart),
            ("a\\x", FolderPathError::Character),
            ("C:/x", FolderPathError::Character),
            ("a\n", FolderPathError::Character),
        ] {
            assert_eq!(text.parse::<FolderPath>(), Err(error), "{text:?}");
        }
        assert_eq!("x".repeat(1025).parse::<FolderPath>(), Err(FolderPathError::TooLong));
    }

    #[test]
    fn tags_of_a_folder_begin_with_its_last_part_or_with_the_alias() {
        let names = |alias: &str, path: &str| {
            let repository = PackageId { upstream: "github".into(), name: "acme/apps".parse().expect("a name") };
            let alias = alias.parse().expect("a name");
            let folder = FolderPackage { alias, repository, path: path.parse().expect("a path") };
            assert_eq!(folder.spec(), format!("github:acme/apps//{path}"));
            folder.tag_names().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names("start-x", "apps/x"), ["x", "start-x"]);
        assert_eq!(names("x", "apps/x"), ["x"]);
    }
}
