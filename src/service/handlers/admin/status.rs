//! The state of the mirror and its upstreams.

use std::time::Duration;

use super::{AdminError, stats};
use crate::{
    admin_api::{
        CertificateState, FailedPublicationRow, FailureCode, FleetState, LoggedEvent, MirrorStatus, SharedBucketState,
        SpaceUse, UpstreamFailure, UpstreamPause, UpstreamState,
    },
    observe::{self, AuditLog, CACHE_OUTCOMES, RecentEvent},
    peer::CertificateEnd,
    registry::{
        BucketState, CallTimes, FailedCall, FleetFigures, OperationCounts, Registry, UpstreamReportLine,
        hosting::{FailedPublication, failed_publications},
    },
    service::{Service, failure_code},
};

/// Most failed publications in a status.
const MAX_SHOWN_FAILED: usize = 50;

pub(super) async fn status(service: &Service) -> Result<MirrorStatus, AdminError> {
    Ok(mirror_status(service))
}

/// The state of the mirror. Reads nothing from disk and sends no upstream request.
pub(in crate::service) fn mirror_status(service: &Service) -> MirrorStatus {
    let registry = &service.registry;
    let usage = registry.inventory().usage();
    let reasons = service.faults().into_reasons();
    let memory = registry.memory();
    let routes = service.metrics.routes();
    let outcomes = routes.iter().flat_map(|(_, route)| CACHE_OUTCOMES.into_iter().zip(route.outcomes));
    MirrorStatus {
        state: service.readiness.state(&reasons),
        reasons,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: service.started_at,
        reloaded_at: service.reloaded_at,
        upstreams: registry.upstreams().report().into_iter().map(upstream).collect(),
        disk: SpaceUse { bytes: usage.disk.bytes, limit: usage.disk.limit },
        memory: SpaceUse { bytes: memory.taken(), limit: memory.total_bytes() },
        shared: usage.bucket.map(shared_bucket),
        fleet: usage.fleet.map(|FleetFigures { nodes, read, failed, served }| FleetState {
            nodes,
            read,
            sent: served,
            failed,
        }),
        downloads: registry.inventory().fills_running(),
        stale_answers: outcomes.filter(|(outcome, _)| *outcome == "stale").map(|(_, count)| count).sum(),
        refused: service.clients.refused().into_iter().map(|(limit, count)| (limit.to_owned(), count)).collect(),
        audit_lost: service.audit.as_ref().map_or(0, AuditLog::lost),
        certificates: service.certificates.get().into_iter().map(certificate).collect(),
        failed_publications: failed(registry),
        recent: observe::recent_events().into_iter().map(logged).collect(),
    }
}

fn shared_bucket(state: BucketState) -> SharedBucketState {
    let BucketState { status, queued, queue_limit } = state;
    let sum = |count: fn(&OperationCounts) -> u64| status.requests.iter().map(count).sum();
    SharedBucketState {
        answered_at: status.last_success,
        failed_at: status.last_failure.map(|failure| failure.at),
        failure: status.last_failure.map(|failure| failure.error.to_string()),
        paused_seconds: status.paused_seconds,
        answered: sum(|counts| counts.succeeded),
        failed: sum(|counts| counts.failed),
        queued: queued.archives,
        queue: SpaceUse { bytes: queued.bytes, limit: queue_limit },
    }
}

fn failed(registry: &Registry) -> Vec<FailedPublicationRow> {
    let failed = registry.hosted().map(|hosted| failed_publications(hosted, None, registry.now()));
    failed.unwrap_or_default().into_iter().take(MAX_SHOWN_FAILED).map(failed_row).collect()
}

/// The row of a failed publication in answers.
pub(super) fn failed_row(failed: FailedPublication) -> FailedPublicationRow {
    let FailedPublication { package, version, by, at, reason } = failed;
    FailedPublicationRow { package, version, by, at, reason }
}

fn upstream(line: UpstreamReportLine) -> UpstreamState {
    let UpstreamReportLine { name, gate, limited_for, credentials, answered, failed } = line;
    let CallTimes { answered_at, failure } = gate.calls;
    let failure = failure.map(|FailedCall { at, error }| UpstreamFailure {
        at,
        code: failure_code(&error),
        message: error.to_string(),
    });
    let limit = |wait: Duration| UpstreamPause { code: FailureCode::UpstreamThrottled, seconds: wait.as_secs() };
    let pause = gate.open.map(|(cause, wait)| UpstreamPause { code: failure_code(&cause), seconds: wait.as_secs() });
    let pause = pause.or(limited_for.map(limit));
    let queues = gate.queues.into_iter().map(|queue| stats::queue(&name, queue)).collect();
    let credentials = credentials.into_iter().map(|status| stats::credential(&name, status)).collect();
    UpstreamState { answered_at, failure, pause, answered, failed, queues, credentials, name }
}

fn certificate(CertificateEnd { name, not_after }: CertificateEnd) -> CertificateState {
    CertificateState { name, not_after }
}

fn logged(RecentEvent { at, is_error, text }: RecentEvent) -> LoggedEvent {
    LoggedEvent { at, level: if is_error { "error" } else { "warn" }.to_owned(), text }
}
