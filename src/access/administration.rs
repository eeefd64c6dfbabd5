//! Who may use the administration API over the network.

use super::{Access, Caller, Config, rules::Rules};

/// What `[access]` says about administration over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AdministrationPolicy {
    /// `access.remote_admin`.
    pub(super) is_open: bool,
    /// `access.allow_plaintext`.
    pub(super) allows_plaintext: bool,
}

impl AdministrationPolicy {
    pub(super) fn of(config: &Config) -> Self {
        Self { is_open: config.remote_admin, allows_plaintext: config.allow_plaintext }
    }
}

/// Administration over the network, where it is open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Administration<'a> {
    rules: &'a Rules,
}

impl Access {
    /// True when a caller may see the state of the mirror and its upstreams: without rules everyone, else those who may
    /// administer the whole mirror.
    pub(crate) fn may_see_status(&self, caller: &Caller) -> bool {
        !self.enabled || self.rules.give_admin(caller)
    }

    /// Administration over the network; `None` while it is closed.
    pub(crate) fn administration(&self) -> Option<Administration<'_>> {
        let is_open = self.enabled && self.administration.is_open;
        is_open.then_some(Administration { rules: &self.rules })
    }
}

impl Administration<'_> {
    /// True for a caller who may administer the whole mirror: every rule gives it `admin`, and its credential is limited to
    /// no packages. One rule is not enough: administration reads and changes what is stored of every package.
    pub(crate) fn is_given_to(self, caller: &Caller) -> bool {
        self.rules.give_admin(caller)
    }
}
