//! The commands that publish, delete, hide and show versions on a mirror that hosts packages.

mod change;
mod client;
mod package_zip;
mod publish;

pub(super) use change::{DeleteCommand, UnyankCommand, YankCommand};
pub(super) use publish::PublishCommand;

/// True for a package that cannot be published as it is.
pub(super) fn is_usage(why: &(dyn std::error::Error + 'static)) -> bool {
    why.downcast_ref().is_some_and(package_zip::PackageZipError::is_usage)
}
