//! The page of the state of the mirror and its upstreams: the facts of `srm-mirror status`; for callers who may not see those,
//! the facts of `/readyz`.

use askama::Template;
use http::{Response, StatusCode, request::Parts};
use jiff::Timestamp;

use super::{
    frame::{Section, WebFrame},
    html,
    text::{count, counted},
};
use crate::{
    access::Caller,
    admin_api::{
        CertificateState, CredentialStats, FailedPublicationRow, LoggedEvent, MirrorStatus, SharedBucketState,
        SpaceUse, UpstreamState,
    },
    http::body::Body,
    service::{Service, context::RequestContext, handlers::admin::mirror_status, hosts::RequestHost},
    value::text::{Moment, size},
};

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    frame: WebFrame,
    /// `None` for callers who may not see it.
    details: Option<ShownStatus>,
}

/// The facts, as the page writes them.
struct ShownStatus {
    started: Moment,
    reloaded: Option<Moment>,
    pid: u32,
    disk: ShownSpace,
    memory: ShownSpace,
    /// The bucket that several mirrors share, in one sentence.
    shared: Option<String>,
    downloads: u64,
    stale_answers: String,
    audit_lost: u64,
    refused: Vec<String>,
    upstreams: Vec<ShownUpstream>,
    certificates: Vec<ShownCertificate>,
    /// The publications that failed after the last response that their client reads, the newest first.
    failed_publications: Vec<ShownPublication>,
    /// The last warnings and errors of the log, the newest first.
    recent: Vec<ShownEvent>,
}

/// How much of a limit is used.
struct ShownSpace {
    used: String,
    limit: String,
    /// The used part, 0 to 100.
    percent: u64,
}

/// The state of one upstream.
struct ShownUpstream {
    name: String,
    class: &'static str,
    state: String,
    answered_at: Option<Moment>,
    failure: Option<ShownFailure>,
    answered: String,
    failed: String,
    waiting: Vec<String>,
    credentials: Vec<ShownCredential>,
}

struct ShownFailure {
    at: Moment,
    message: String,
}

struct ShownCredential {
    name: String,
    state: String,
    is_refused: bool,
}

struct ShownCertificate {
    name: String,
    end: String,
}

/// A publication that failed.
struct ShownPublication {
    package: String,
    version: String,
    by: String,
    at: Moment,
    reason: String,
}

struct ShownEvent {
    at: Moment,
    level: String,
    text: String,
}

/// Responds with the page.
pub(super) fn respond(
    service: &Service,
    parts: &Parts,
    context: &RequestContext,
    host: &RequestHost<'_>,
) -> Response<Body> {
    let may_see = service.access.may_see_status(&context.caller);
    let details = may_see.then(|| {
        let mut status = mirror_status(service);
        // Log lines are for identified callers only.
        if matches!(context.caller, Caller::Anonymous) {
            status.recent.clear();
        }
        ShownStatus::new(status, context.received_at)
    });
    let page = HealthPage { frame: WebFrame::new(service, context, host, Section::Health), details };
    html::respond(StatusCode::OK, &page, parts)
}

impl ShownStatus {
    fn new(status: MirrorStatus, now: Timestamp) -> Self {
        let moment = |at| Moment::new(at, now);
        let event = |LoggedEvent { at, level, text }| ShownEvent { at: moment(at), level, text };
        let certificate = |CertificateState { name, not_after }| {
            let end = not_after.map_or_else(|| "its end cannot be read".to_owned(), |end| format!("until {end:.0}"));
            ShownCertificate { name, end }
        };
        let publication = |row: FailedPublicationRow| {
            let FailedPublicationRow { package, version, by, at, reason } = row;
            ShownPublication { package, version, by, at: moment(at), reason }
        };
        let refused = |(limit, number): (String, u64)| format!("{} by clients.{limit}", count(number));
        Self {
            started: moment(status.started_at),
            reloaded: status.reloaded_at.map(moment),
            pid: status.pid,
            disk: ShownSpace::new(&status.disk),
            memory: ShownSpace::new(&status.memory),
            shared: status.shared.as_ref().map(shared_text),
            downloads: status.downloads as u64,
            stale_answers: count(status.stale_answers),
            audit_lost: status.audit_lost,
            refused: status.refused.into_iter().map(refused).collect(),
            upstreams: status.upstreams.into_iter().map(|upstream| ShownUpstream::new(upstream, now)).collect(),
            certificates: status.certificates.into_iter().map(certificate).collect(),
            failed_publications: status.failed_publications.into_iter().map(publication).collect(),
            recent: status.recent.into_iter().rev().map(event).collect(),
        }
    }
}

fn shared_text(shared: &SharedBucketState) -> String {
    let SharedBucketState { queued, queue, .. } = shared;
    let waiting =
        format!("{} zips wait for their upload, {} of {}", count(*queued), size(queue.bytes), size(queue.limit));
    format!("{}; {waiting}", shared.describe())
}

impl ShownSpace {
    fn new(space: &SpaceUse) -> Self {
        let percent = space.bytes.saturating_mul(100).checked_div(space.limit).unwrap_or(0).min(100);
        Self { used: size(space.bytes), limit: size(space.limit), percent }
    }
}

impl ShownUpstream {
    fn new(upstream: UpstreamState, now: Timestamp) -> Self {
        let state = upstream.describe();
        let UpstreamState { name, answered_at, failure, pause, answered, failed, queues, credentials } = upstream;
        let class = match (&pause, answered_at, &failure) {
            (Some(_), ..) | (None, None, Some(_)) => "degraded",
            (None, Some(_), _) => "good",
            (None, None, None) => "away",
        };
        Self {
            name,
            class,
            state,
            answered_at: answered_at.map(|at| Moment::new(at, now)),
            failure: failure.map(|failure| ShownFailure { at: Moment::new(failure.at, now), message: failure.message }),
            answered: count(answered),
            failed: count(failed),
            waiting: queues
                .iter()
                .map(|queue| {
                    let requests = counted(queue.waiting as u64, "request waits", "requests wait");
                    format!("{requests} for a place for {}", queue.places)
                })
                .collect(),
            credentials: credentials.into_iter().map(ShownCredential::new).collect(),
        }
    }
}

impl ShownCredential {
    fn new(credential: CredentialStats) -> Self {
        Self { state: credential.describe(), is_refused: !credential.refused.is_empty(), name: credential.credential }
    }
}
