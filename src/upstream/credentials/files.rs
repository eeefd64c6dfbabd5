//! Reads the files of credentials again. A file that cannot be used leaves the credential as it is.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Credential, CredentialPool, CredentialSlot,
    source::{CredentialSource, CredentialSourceError},
};

/// What was last read of a credential's file.
pub(super) struct FileState(Mutex<LastSource>);

struct LastSource {
    source: CredentialSource,
    /// The error of the last reading, which has been logged.
    error: Option<CredentialSourceError>,
}

impl FileState {
    pub(super) fn new(source: CredentialSource) -> Self {
        Self(Mutex::new(LastSource { source, error: None }))
    }
}

/// Why the files are read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialReading {
    /// At an interval: what is known already is not logged again.
    Periodic,
    /// By the operator's request.
    Requested,
}

impl CredentialPool {
    /// Reads every file again, and replaces the credentials whose content has changed. A replaced credential is in use for
    /// all owners again, with a quota that is unknown. Blocks.
    pub(in crate::upstream) fn read_files(&self, reading: CredentialReading) {
        for slot in &self.slots {
            self.read_file(slot, reading);
        }
    }

    fn read_file(&self, slot: &CredentialSlot, reading: CredentialReading) {
        let mut last = slot.file.0.lock();
        let upstream = self.exchange.upstream.as_str();
        let credential = last.source.label().to_owned();
        let source = match last.source.read_again() {
            Ok(Some(source)) => source,
            Ok(None) => return,
            Err(error) => {
                if last.error.as_ref() != Some(&error) || reading == CredentialReading::Requested {
                    tracing::error!(upstream, credential, %error, "cannot read a credential again; the previous one stays in use");
                }
                last.error = Some(error);
                return;
            }
        };
        last.error = None;
        if source.secret == last.source.secret {
            return;
        }
        // Cannot fail: the content was checked when it was read.
        if let Ok(new) = Credential::new(self.profile, &source) {
            *slot.present.write() = Arc::new(new);
            last.source = source;
            tracing::info!(upstream, credential, "the credential has changed and is in use");
        }
    }
}
