//! The credentials of all upstreams: reads their files again while the mirror runs, and asks each upstream what they may do.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures_util::future::join_all;

use super::reload::{RunningService, build_upstreams};
use crate::{
    config::{Config, UpstreamCredentials},
    server::ReloadHandle,
    upstream::{self, CredentialReading, CredentialReport, ProcessContext, Upstream},
    value::memory_budget::MemoryBudget,
};

/// How often the files are checked for changes.
const CREDENTIAL_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time for the questions to one upstream, all its credentials together.
const CREDENTIAL_REPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// What one upstream says of its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamReport {
    /// Its name in the configuration.
    pub upstream: String,
    /// One per credential; `None` when it did not answer in time.
    pub credentials: Option<Vec<CredentialReport>>,
}

impl UpstreamReport {
    /// True when a credential is refused.
    pub fn has_refusal(&self) -> bool {
        self.credentials.iter().flatten().any(CredentialReport::is_refused)
    }
}

/// One line for each credential.
impl fmt::Display for UpstreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { upstream, credentials } = self;
        match credentials {
            None => writeln!(f, "upstream {upstream}: no answer about its credentials in time"),
            Some(credentials) => credentials.iter().try_for_each(|CredentialReport { label, outcome }| {
                writeln!(f, "upstream {upstream}: the credential {label} {outcome}")
            }),
        }
    }
}

/// Asks every upstream of a configuration what its credentials may do. Needs no cache directory.
///
/// # Errors
/// When an upstream cannot be built.
pub async fn check(
    config: &Config,
    credentials: UpstreamCredentials,
) -> Result<Vec<UpstreamReport>, upstream::BuildError> {
    let process = ProcessContext { instance: "check".to_owned(), memory: MemoryBudget::unlimited() };
    let upstreams = build_upstreams(config, credentials, &process)?;
    Ok(report(upstreams).await)
}

/// Asks all upstreams at once; those without credentials are left out.
pub(super) async fn report(upstreams: BTreeMap<String, Arc<dyn Upstream>>) -> Vec<UpstreamReport> {
    let with_credentials = upstreams.into_iter().filter(|(_, upstream)| upstream.has_token());
    let asked = with_credentials.map(async |(name, upstream)| {
        let credentials = tokio::time::timeout(CREDENTIAL_REPORT_TIMEOUT, upstream.report_credentials()).await.ok();
        UpstreamReport { upstream: name, credentials }
    });
    join_all(asked).await
}

/// Reads the files of all credentials again, at an interval and on request. Never returns.
pub(super) async fn read_files_on_change(running: Arc<ArcSwap<RunningService>>, reload: ReloadHandle) {
    let mut requests = reload.requests();
    loop {
        let reading = tokio::select! {
            () = requests.next() => CredentialReading::Requested,
            () = tokio::time::sleep(CREDENTIAL_CHECK_INTERVAL) => CredentialReading::Periodic,
        };
        let upstreams = running.load().online_upstreams();
        let read = move || upstreams.values().for_each(|upstream| upstream.read_credential_files(reading));
        // An error is a panic, which has been reported, or the end of the runtime.
        let _ = crate::blocking::spawn_blocking(read).await;
    }
}
