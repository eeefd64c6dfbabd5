//! Published packages for operators: export, verification, retention.

use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, future, stream};
use http::{HeaderValue, Response};
use serde_json::json;

use super::{
    AdminError,
    hosting::hosted,
    inventory::{INDEX_UNREADABLE, selection},
    status::failed_row,
    with_type,
};
use crate::{
    admin_api::{
        AdminRequest as _, CountHosted, EXPORT_BYTES_FIELD, ErrorCode, ExportHosted, FailedPublicationList,
        HostedCheck, HostedCount, ListFailedPublications, PruneEvent, PruneHosted, PrunedZip,
    },
    http::body::Body,
    package::{PackageId, PackageName},
    registry::{
        Registry, StateChange,
        hosting::{HostedUpkeep, Prunable, PruneOutcome, PrunedPart, RetentionCheck, RetentionRule},
    },
    service::audit::Acts,
};

/// All records and zips as one archive.
pub(super) async fn export(registry: &Registry, request: ExportHosted) -> Result<Response<Body>, AdminError> {
    let export = HostedUpkeep::of(hosted(registry)?).export(request.known, registry.now()).await;
    let export = export.map_err(|error| AdminError::new(ErrorCode::Other, error.to_string()))?;
    let mut response = with_type("application/x-tar", Body::stream(export.chunks.map(Ok).boxed(), None));
    response.headers_mut().insert(EXPORT_BYTES_FIELD, HeaderValue::from(export.zip_bytes));
    Ok(response)
}

/// Verifies everything.
pub(super) async fn verify(registry: &Registry) -> Result<impl Stream<Item = HostedCheck> + use<>, AdminError> {
    Ok(HostedUpkeep::of(hosted(registry)?).verify())
}

/// Counts the selected versions.
pub(super) async fn count(registry: &Registry, request: CountHosted) -> Result<HostedCount, AdminError> {
    let selection = selection(request.pattern.as_deref())?;
    let Some(hosted) = registry.hosted() else { return Ok(HostedCount { versions: 0 }) };
    let counted = HostedUpkeep::of(hosted).fold(selection, 0, |versions, _| *versions += 1).await;
    let versions = counted.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    Ok(HostedCount { versions })
}

/// The selected publications that failed.
pub(super) async fn failed(
    registry: &Registry,
    request: ListFailedPublications,
) -> Result<FailedPublicationList, AdminError> {
    let selection = selection(request.pattern.as_deref())?;
    let Some(hosted) = registry.hosted() else { return Ok(FailedPublicationList::default()) };
    let failed = HostedUpkeep::of(hosted).failed(&selection, registry.now());
    Ok(FailedPublicationList { failed: failed.into_iter().map(failed_row).collect() })
}

/// Prunes by a rule. Each part is recorded as an act of its own. When the client leaves, nothing more is pruned.
pub(super) async fn prune(
    registry: &Arc<Registry>,
    acts: &Acts,
    request: PruneHosted,
) -> Result<impl Stream<Item = PruneEvent> + use<>, AdminError> {
    let PruneHosted { pattern, keep_last, younger_than, dry_run } = request;
    if keep_last == 0 {
        return Err(AdminError::bad_request("the number of versions to keep must be at least 1"));
    }
    let selection = selection(pattern.as_deref())?;
    let published_before = registry.now().checked_sub(younger_than.0);
    let published_before = published_before.map_err(|_| AdminError::bad_request("the period is too long"))?;
    let rule = Arc::new(RetentionCheck::new(RetentionRule { keep_last, published_before }));
    let found = HostedUpkeep::of(hosted(registry)?).prunable(selection, rule.clone()).await;
    let found =
        found.map_err(|error| AdminError::storage("the record of a published version cannot be read", error))?;
    let registry = registry.clone();
    let acts = acts.clone();
    let events = stream::iter(found).then(move |prunable| {
        let registry = registry.clone();
        let acts = acts.clone();
        let rule = rule.clone();
        async move {
            match dry_run {
                true => Some(event(&prunable)),
                false => prune_one(&registry, &acts, prunable, rule).await,
            }
        }
    });
    Ok(events.filter_map(future::ready))
}

/// Prunes one part; `None` for a part that stays because something has changed since it was found.
async fn prune_one(
    registry: &Registry,
    acts: &Acts,
    prunable: Prunable,
    rule: Arc<RetentionCheck>,
) -> Option<PruneEvent> {
    let Prunable { package, version, digest, .. } = &prunable;
    let record = json!({"package": package, "version": version, "sha256": digest});
    let failed = |message: String| PruneEvent::Failed { package: package.clone(), version: version.clone(), message };
    let act = match acts.begin(PruneHosted::ROUTE, &record).await {
        Ok(act) => act,
        Err(error) => return Some(failed(error.to_string())),
    };
    let pruned = match hosted(registry) {
        Ok(hosted) => {
            let change = StateChange { by: acts.principal().to_owned(), at: registry.now() };
            let pruned = HostedUpkeep::of(hosted).prune(prunable.clone(), rule, change).await;
            if let Ok(name) = PackageName::plain(package) {
                let upstream = hosted.upstream().clone();
                registry.sources().end_generation(&PackageId { upstream, name });
            }
            pruned.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.message),
    };
    let why = match &pruned {
        Ok(PruneOutcome::Pruned) => None,
        Ok(PruneOutcome::Stays) => Some("it stays: the rules do not prune it any more"),
        Err(message) => Some(message.as_str()),
    };
    act.end(why).await;
    match pruned {
        Ok(PruneOutcome::Pruned) => {
            let by = acts.principal();
            tracing::info!(%package, %version, %digest, %by, "a published version is pruned");
            Some(event(&prunable))
        }
        Ok(PruneOutcome::Stays) => None,
        Err(message) => Some(failed(message)),
    }
}

fn event(prunable: &Prunable) -> PruneEvent {
    let Prunable { package, version, digest, len, published_at, what } = prunable.clone();
    let zip = PrunedZip { package, version, sha256: digest, size: len, published_at };
    match what {
        PrunedPart::Version => PruneEvent::Version(zip),
        PrunedPart::EarlierZip => PruneEvent::EarlierZip(zip),
    }
}
