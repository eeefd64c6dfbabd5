//! Why a name of the configuration cannot be used, or a text is no package.

use super::route_row::RouteConfigError;
use crate::package::{FolderPathError, NameError};

/// The end of every error about the folder of an alias.
const FOLDER_EXAMPLE: &str = "; for example start-x = \"github:acme/apps//start-x\"";

/// A name in the configuration that cannot be used. The text is one line: key, value, reason and an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// The name of an upstream.
    #[error("upstreams.{name}: {reason}; write for example [upstreams.github]")]
    Upstream {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `names.default_upstream` names no configured upstream.
    #[error("names.default_upstream = \"{0}\": no upstream has this name; write for example \"github\"")]
    DefaultUpstream(String),
    /// `names.default_owner` is no owner.
    #[error("names.default_owner = \"{owner}\": {reason}; write for example \"devsapp\"")]
    DefaultOwner {
        /// The value.
        owner: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// An entry of `host.names` or `host.claim`.
    #[error("host.{key} has \"{name}\": {reason}")]
    Hosted {
        /// The key.
        key: &'static str,
        /// The entry.
        name: String,
        /// What is wrong with it.
        reason: HostedNameError,
    },
    /// A `[[routes]]` table.
    #[error("routes, table {number}: {}: {reason}", reason.key())]
    Route {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        reason: RouteConfigError,
    },
    /// An entry of `names.aliases`.
    #[error("names.aliases.{key} = \"{package}\": {reason}; write for example {key} = \"devsapp/fc3\"")]
    Alias {
        /// The key as TOML writes it.
        key: String,
        /// The value.
        package: String,
        /// What is wrong with either.
        reason: AliasError,
    },
}

/// Why a text is no package.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// The owner or the repository is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The upstream is not configured.
    #[error("no upstream is called {0}")]
    UnknownUpstream(String),
}

/// Why an alias cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// The key is no name.
    #[error("the name's {0}")]
    Name(NameError),
    /// The first segment of the key is reserved.
    #[error("no path reaches it, {0} is a route of the mirror or an upstream")]
    Unreachable(String),
    /// Two keys are equal without case.
    #[error("another alias has this name; names compare without case")]
    Duplicate,
    /// The value is no package.
    #[error(transparent)]
    Package(PackageError),
    /// The value has two slashes, and what stands behind them is no folder.
    #[error("the path of the folder {0}{example}", example = FOLDER_EXAMPLE)]
    FolderPath(FolderPathError),
    /// A folder of a package of a registry.
    #[error("{0} is no forge, and only repositories have folders{example}", example = FOLDER_EXAMPLE)]
    FolderOfRegistry(String),
    /// A folder whose alias is `owner/name`.
    #[error("a folder's alias has no slash{example}", example = FOLDER_EXAMPLE)]
    FolderWithOwner,
}

/// Why a name cannot belong to this mirror, or cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostedNameError {
    /// The text is no pattern of plain names.
    #[error("not a pattern of names without a slash; write for example \"acme-*\"")]
    Pattern,
    /// The text is no plain name.
    #[error("not a name without a slash; write for example \"fc3\"")]
    Name,
    /// An alias has the name.
    #[error("an alias in [names.aliases] has this name; remove one of the two")]
    Alias,
    /// The name begins with a dot, is too long, or has `__` in it.
    #[error(
        "a published package has a name of at most 100 of the characters a-z A-Z 0-9 . _ -, not beginning with a dot or a dash, without two underscores in a row"
    )]
    Form,
    /// The name has a meaning in paths.
    #[error("the name has a meaning of its own in addresses, or is that of an upstream")]
    Reserved,
}

impl AliasError {
    /// True when the text of the error has an example.
    pub fn has_example(&self) -> bool {
        match self {
            Self::FolderPath(_) | Self::FolderOfRegistry(_) | Self::FolderWithOwner => true,
            Self::Name(_) | Self::Unreachable(_) | Self::Duplicate | Self::Package(_) => false,
        }
    }
}

impl HostedNameError {
    /// True when the text of the error has an example.
    pub fn has_example(self) -> bool {
        match self {
            Self::Pattern | Self::Name => true,
            Self::Alias | Self::Form | Self::Reserved => false,
        }
    }
}
