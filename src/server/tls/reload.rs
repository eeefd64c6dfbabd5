//! Certificates read again while connections run: when their files change, and when somebody asks.

use std::{future::pending, sync::Arc};

use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use super::{
    Config,
    files::{self, FileFingerprint, TlsError},
};

/// Reads the files every `config.reload` and when `asked`, and hands new certificates to `replace`; ends never.
///
/// Files that cannot be used change nothing and are said once: a certificate and its key are two files, and between
/// the writing of the one and of the other they do not fit.
pub(super) async fn follow(
    config: &Config,
    asked: &Notify,
    first: FileFingerprint,
    replace: impl Fn(Vec<Arc<CertifiedKey>>),
) {
    let mut last: Result<FileFingerprint, String> = Ok(first);
    loop {
        let by_hand = tokio::select! {
            () = asked.notified() => true,
            () = period(config) => false,
        };
        let read = match read(config).await {
            Ok((seen, keys)) => {
                if last.as_ref() != Ok(&seen) || by_hand {
                    replace(keys);
                    tracing::info!(certificates = config.certificates.len(), "TLS certificates were read again");
                }
                Ok(seen)
            }
            Err(why) => {
                let why = why.to_string();
                if last.as_ref() != Err(&why) || by_hand {
                    tracing::error!(error = %why, "TLS certificates stay as they were, the new ones cannot be used");
                }
                Err(why)
            }
        };
        last = read;
    }
}

async fn period(config: &Config) {
    if config.reload.is_forever() { pending().await } else { tokio::time::sleep(config.reload.0).await }
}

async fn read(config: &Config) -> Result<(FileFingerprint, Vec<Arc<CertifiedKey>>), TlsError> {
    let files = config.certificates.clone();
    let read = tokio::task::spawn_blocking(move || files::read(&files)).await;
    // Only a panic or the end of the runtime gets here.
    read.unwrap_or_else(|why| Err(TlsError::Setup(rustls::Error::General(why.to_string()))))
}
