//! The spelling of a package's name where several mirrors share a primary store: the first publication on any of them
//! decides on it.
//!
//! `hosted/names/{package in lower case}.json` is created once, before the first record of the package. While there are
//! records, these have the spelling, and publications do not read the object.

use serde::{Deserialize, Serialize};

use super::{HostedStore, PublishRefusal, primary::Primary, primary_store::CONTENDED, primary_store::PrimaryWrite};

#[derive(Serialize, Deserialize)]
struct NameSpelling {
    name: String,
}

/// Takes a spelling for a package of which the primary store has no version.
///
/// # Errors
/// `OtherSpelling` where another publication was first, also when it failed afterwards.
pub(super) fn take_spelling(primary: &Primary, name: &str) -> Result<(), PublishRefusal> {
    let folded = name.to_ascii_lowercase();
    let object = format!("hosted/names/{folded}.json");
    let own = serde_json::json!(NameSpelling { name: name.to_owned() }).to_string();
    if primary.objects.create(&object, own.into_bytes())? == PrimaryWrite::Done {
        return Ok(());
    }
    let found = primary.objects.read(&object)?.ok_or(CONTENDED)?;
    match serde_json::from_slice::<NameSpelling>(&found.bytes) {
        Ok(first) if first.name == name => Ok(()),
        Ok(first) if first.name.eq_ignore_ascii_case(name) => Err(PublishRefusal::OtherSpelling(first.name)),
        _ => {
            // Nothing else repairs it, and the package could never be published.
            tracing::error!(%object, "the spelling of a package's name in the shared bucket is damaged, and ignored");
            Ok(())
        }
    }
}

/// Checks the spelling of a package of which a version is about to be created in the primary store, and takes it.
///
/// # Errors
/// When the primary store cannot be used, or has another spelling.
pub(super) fn check_spelling(store: &HostedStore, primary: &Primary, name: &str) -> Result<(), PublishRefusal> {
    match store.package(name) {
        Some(package) if package.is_in_primary() && package.name != name => {
            Err(PublishRefusal::OtherCase(package.name.clone()))
        }
        _ => take_spelling(primary, name),
    }
}
