//! An upstream as names refer to it.

use std::sync::Arc;

use crate::package::NameForm;

/// The name of the upstream of published packages.
pub const HOSTED: &str = "hosted";
/// The owner in front of plain names in the simple dialect, which is dropped.
pub(crate) const SIMPLE_OWNER: &str = "devsapp";

/// An upstream as names refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUpstream {
    /// Its configured name.
    pub name: Arc<str>,
    /// The form of its packages' names.
    pub form: NameForm,
    /// An owner that may stand in front of a plain name, and is dropped.
    pub dropped_owner: Option<&'static str>,
    /// True for the packages that are published on this mirror.
    pub is_hosted: bool,
}

impl NamedUpstream {
    /// A forge.
    pub fn forge(name: &str) -> Self {
        Self { name: name.into(), form: NameForm::Repository, dropped_owner: None, is_hosted: false }
    }

    /// A registry, whose packages have plain names.
    pub fn registry(name: &str, dropped_owner: Option<&'static str>) -> Self {
        Self { name: name.into(), form: NameForm::Plain, dropped_owner, is_hosted: false }
    }

    /// The packages that are published on this mirror.
    pub fn hosted() -> Self {
        Self { name: HOSTED.into(), form: NameForm::Plain, dropped_owner: Some(SIMPLE_OWNER), is_hosted: true }
    }

    /// True when this owner in front of a plain name is dropped.
    pub(super) fn drops_owner(&self, owner: &str) -> bool {
        self.dropped_owner.is_some_and(|dropped| dropped.eq_ignore_ascii_case(owner))
    }
}
