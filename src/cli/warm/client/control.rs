//! Warming through the control socket.

use jiff::Timestamp;

use super::{FetchFailure, ProgressFn, WarmTarget};
use crate::{
    admin_api::{
        FilledArchive, GetFirstSeen, GetStoredState, StoredState, WarmArchive, WarmEvent, WarmLists, WarmListsAnswer,
        WarmedLists,
    },
    cli::{admin_client::AdminClient, warm::package_spec::RawName},
    entry::Digest,
    package::DialectName,
};

/// The mirror that holds the cache directory.
pub(in crate::cli::warm) struct ControlClient<'c> {
    client: &'c AdminClient,
}

impl<'c> ControlClient<'c> {
    /// Uses an open connection.
    pub(in crate::cli::warm) fn new(client: &'c AdminClient) -> Self {
        Self { client }
    }
}

impl WarmTarget for ControlClient<'_> {
    async fn store_lists(&self, package: &RawName, dialect: DialectName) -> Result<WarmedLists, FetchFailure> {
        match self.client.call(&WarmLists { package: package.to_string(), dialect: Some(dialect) }).await? {
            WarmListsAnswer::Stored(lists) => Ok(lists),
            WarmListsAnswer::Failed(failure) => Err(failure.into()),
        }
    }

    async fn first_seen(&self, package: &RawName, version: &str) -> Option<Timestamp> {
        let request = GetFirstSeen { package: package.to_string(), version: version.to_owned() };
        self.client.call(&request).await.ok()?.first_seen
    }

    async fn stored_state(&self, package: &RawName, version: &str) -> Result<Option<StoredState>, FetchFailure> {
        let request = GetStoredState { package: package.to_string(), version: version.to_owned() };
        Ok(Some(self.client.call(&request).await?))
    }

    async fn fill(
        &self,
        package: &RawName,
        version: &str,
        progress: ProgressFn<'_>,
    ) -> Result<FilledArchive, FetchFailure> {
        let request = WarmArchive { package: package.to_string(), version: version.to_owned() };
        let mut result = Err(FetchFailure::disconnected());
        let each = |event| {
            match event {
                WarmEvent::Progress { bytes, total } => progress(bytes, total),
                WarmEvent::Stored(archive) => result = Ok(archive),
                WarmEvent::Failed(failure) => result = Err(failure.into()),
            }
            Ok(())
        };
        self.client.subscribe(&request, each).await?;
        result
    }

    /// What the mirror reports is the stored zip, whatever its form.
    async fn flat_digest(&self, _: &RawName, _: &str) -> Option<Digest> {
        None
    }
}
