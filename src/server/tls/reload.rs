//! Reloads the files of certificates and authorities while the server runs: when they change, and on request.

use std::future::pending;

use super::{
    Config,
    files::{self, FileFingerprint, LoadedFiles, TlsError},
};
use crate::server::ReloadRequests;

/// The result of the last reading.
#[derive(PartialEq)]
enum LastRead {
    Loaded(FileFingerprint),
    Failed(String),
}

/// Reads the files every `config.reload` and on request, and passes changed ones to `replace`. Never returns.
///
/// While the files cannot be used, the certificates stay and the reason is logged once: between the writing of a
/// certificate and of its key, the two do not match.
pub(super) async fn run(
    config: &Config,
    mut requests: ReloadRequests,
    fingerprint: FileFingerprint,
    replace: impl Fn(LoadedFiles),
) {
    let mut last = LastRead::Loaded(fingerprint);
    loop {
        let on_request = tokio::select! {
            () = requests.next() => true,
            () = check_interval(config) => false,
        };
        let read = read(config).await;
        let this = match &read {
            Ok(loaded) => LastRead::Loaded(loaded.fingerprint),
            Err(error) => LastRead::Failed(error.to_string()),
        };
        if this != last || on_request {
            match read {
                Ok(loaded) => {
                    replace(loaded);
                    tracing::info!(certificates = config.certificates.len(), "TLS certificates reloaded");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot reload the TLS certificates; the previous ones stay in use");
                }
            }
        }
        last = this;
    }
}

async fn check_interval(config: &Config) {
    if config.reload.is_forever() { pending().await } else { tokio::time::sleep(config.reload.0).await }
}

async fn read(config: &Config) -> Result<LoadedFiles, TlsError> {
    let config = config.clone();
    let read = crate::blocking::spawn_blocking(move || files::read(&config)).await;
    // Only a panic, or the end of the runtime.
    read.unwrap_or_else(|error| Err(TlsError::Setup(rustls::Error::General(error.to_string()))))
}
