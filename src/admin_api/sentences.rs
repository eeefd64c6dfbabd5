//! The states of upstreams and credentials in words, for the page and for a terminal.

use super::{CredentialStats, FailureCode, RefusedCredential, UpstreamState};

impl UpstreamState {
    /// Whether it answers, in a few words.
    pub(crate) fn describe(&self) -> String {
        match (&self.pause, self.answered_at, &self.failure) {
            (Some(pause), ..) if pause.code == FailureCode::UpstreamThrottled => {
                format!("limits the mirror's requests, asked again in {} s", pause.seconds)
            }
            (Some(pause), ..) => format!("does not answer ({}), asked again in {} s", pause.code, pause.seconds),
            (None, Some(_), _) => "answers".to_owned(),
            (None, None, Some(_)) => "has not answered yet".to_owned(),
            (None, None, None) => "not asked yet".to_owned(),
        }
    }
}

impl CredentialStats {
    /// The state in a few words, such as `in use; 4999 requests left until …`.
    pub(crate) fn describe(&self) -> String {
        let refusal = |refusal: &RefusedCredential| {
            let owner = refusal.owner.as_ref().map(|owner| format!(" for {owner}")).unwrap_or_default();
            format!("refused{owner} since {:.0} ({})", refusal.since, refusal.reason)
        };
        let state = match &self.refused[..] {
            [] => "in use".to_owned(),
            refused => refused.iter().map(refusal).collect::<Vec<_>>().join(", "),
        };
        let until = self.reset.map(|reset| format!(" until {reset:.0}")).unwrap_or_default();
        let quota = self.remaining.map(|left| format!("; {left} requests left{until}")).unwrap_or_default();
        let pause = self.paused_s.map(|seconds| format!("; paused for {seconds} s")).unwrap_or_default();
        format!("{state}{quota}{pause}")
    }
}
