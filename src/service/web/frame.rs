//! The frame of every page: the name of the mirror, the links to the other pages, and the state in one sentence.

use super::{
    assets::{ASSET_NAMES, AssetNames},
    may_sign_in,
};
use crate::{
    access::Caller,
    admin_api::MirrorState,
    registry::Faults,
    service::{Service, context::RequestContext, hosts::RequestHost},
};

/// The pages that the navigation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Packages,
    SetUp,
    Health,
    /// None of them.
    Other,
}

/// The frame around a page's content.
pub(super) struct WebFrame {
    /// The path that the mirror's own paths begin with; empty in most cases.
    pub(super) prefix: String,
    /// The mirror's address without its scheme.
    pub(super) site: String,
    pub(super) section: Section,
    pub(super) health: HealthSummary,
    /// True when the caller can sign in.
    pub(super) may_sign_in: bool,
    /// The name that the caller has signed in with.
    pub(super) signed_in_as: Option<String>,
    pub(super) assets: &'static AssetNames,
    pub(super) version: &'static str,
}

impl WebFrame {
    pub(super) fn new(service: &Service, context: &RequestContext, host: &RequestHost<'_>, section: Section) -> Self {
        let base = host.base();
        let site = base.split_once("://").map_or(base.as_str(), |(_, site)| site).to_owned();
        let signed_in_as = match &context.caller {
            Caller::Principal(principal) => Some(principal.name.to_string()),
            Caller::Anonymous | Caller::Operator => None,
        };
        Self {
            prefix: host.path_prefix().to_owned(),
            site,
            section,
            health: HealthSummary::of(service),
            may_sign_in: may_sign_in(service, &context.caller),
            signed_in_as,
            assets: &ASSET_NAMES,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// True when the page is the one that the navigation has under this name.
    pub(super) fn is(&self, name: &str) -> bool {
        let section = match self.section {
            Section::Packages => "packages",
            Section::SetUp => "setup",
            Section::Health => "health",
            Section::Other => return false,
        };
        section == name
    }
}

/// The state of the mirror in one sentence, and its faults.
pub(super) struct HealthSummary {
    pub(super) state: MirrorState,
    /// One sentence.
    pub(super) sentence: String,
    /// Every fault that the sentence does not name.
    pub(super) faults: Vec<String>,
}

impl HealthSummary {
    pub(super) fn of(service: &Service) -> Self {
        let Faults { mirror, upstreams } = service.faults();
        let reasons: Vec<String> = mirror.iter().chain(&upstreams).cloned().collect();
        let state = service.readiness.state(&reasons);
        let sentence = match (state, &mirror[..], &upstreams[..]) {
            (MirrorState::Starting, ..) => "This mirror is starting.".to_owned(),
            (MirrorState::Draining, ..) => "This mirror is shutting down: it answers what is under way.".to_owned(),
            (_, [], []) => "Everything works.".to_owned(),
            (_, [], [one]) => format!("This mirror works, but {one}."),
            (_, [], _) => "This mirror works, but several things upstream do not.".to_owned(),
            (_, [one], []) => format!("This mirror needs its operator: {one}."),
            (_, _, []) => "This mirror needs its operator.".to_owned(),
            _ => "This mirror needs its operator, and upstreams have trouble, too.".to_owned(),
        };
        let is_in_sentence = reasons.len() == 1 && state == MirrorState::Degraded;
        let faults = if is_in_sentence { Vec::new() } else { reasons };
        Self { state, sentence, faults }
    }

    /// The name of the state in the stylesheet.
    pub(super) fn class(&self) -> &'static str {
        match self.state {
            MirrorState::Ready => "good",
            MirrorState::Degraded => "degraded",
            MirrorState::Starting | MirrorState::Draining => "away",
        }
    }

    /// The state in one word.
    pub(super) fn word(&self) -> &'static str {
        match self.state {
            MirrorState::Ready => "Healthy",
            MirrorState::Degraded => "Degraded",
            MirrorState::Starting => "Starting",
            MirrorState::Draining => "Draining",
        }
    }
}
