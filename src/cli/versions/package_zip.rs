//! The zip of a package that is published: packed, verified, and sent.

mod content;
mod limits;
mod pack;
mod package_zip_error;
mod upload;

pub(super) use content::PackageZip;
pub(super) use package_zip_error::PackageZipError;
pub(super) use upload::zip_body;
