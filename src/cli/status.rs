//! `srm-mirror status`: the state of the running mirror, and whose fault it is when something does not work.

use std::fmt::Write as _;

use clap::Args;
use jiff::Timestamp;

use super::{
    FAILED, admin_args::AdminArgs, admin_client, cache::credential_line, escape_terminal_lines, fleet::FleetArgs, print,
};
use crate::{
    admin_api::{
        CertificateState, FailedPublicationRow, FleetState, LoggedEvent, MirrorState, MirrorStatus, QueueStats,
        ReadStatus, SharedBucketState, UpstreamState,
    },
    value::text::{Moment, size},
};

const STATUS_HELP: &str = "\
Examples:
  srm-mirror status
  srm-mirror status --json
  srm-mirror status --fleet

Exit code 0 when the mirror is ready, 1 when it is degraded, starting or draining, 69 when no mirror runs on the cache
directory; with --fleet, the highest of all nodes, 69 when one cannot be reached. No upstream is asked.";

/// Events of the log that are printed.
const MAX_PRINTED_EVENTS: usize = 10;

/// Show the state of the running mirror and its upstreams
#[derive(Debug, Args)]
#[command(after_help = STATUS_HELP)]
pub(super) struct StatusCommand {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    mirror: AdminArgs,
}

impl StatusCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        self.fleet.run(&self.mirror, self.json, |mirror| show(mirror, self.json))
    }
}

fn show(mirror: &AdminArgs, json: bool) -> anyhow::Result<u8> {
    let status = admin_client::run_at_server(mirror, async |client| client.call(&ReadStatus {}).await)?;
    print(&if json {
        format!("{}\n", mirror.labelled(&serde_json::to_string(&status)?))
    } else {
        escape_terminal_lines(&text(&status, Timestamp::now()))
    });
    Ok(if status.state == MirrorState::Ready { 0 } else { FAILED })
}

/// The whole status, a line for each fact.
fn text(status: &MirrorStatus, now: Timestamp) -> String {
    let mut out = state_line(status, now);
    for reason in &status.reasons {
        let _ = writeln!(out, "  {reason}");
    }
    write_upstreams(&mut out, status, now);
    let _ = writeln!(
        out,
        "disk {} of {}, memory for requests {} of {}, {} downloads",
        size(status.disk.bytes),
        size(status.disk.limit),
        size(status.memory.bytes),
        size(status.memory.limit),
        status.downloads
    );
    if let Some(shared) = &status.shared {
        let _ = writeln!(out, "shared bucket {}", shared_bucket_line(shared, now));
    }
    if let Some(FleetState { nodes, read, sent, failed }) = &status.fleet {
        let _ = writeln!(
            out,
            "fleet of {nodes}: {read} zips read from other nodes, {sent} sent to them, {failed} attempts failed"
        );
    }
    for certificate in &status.certificates {
        let _ = writeln!(out, "{}", certificate_line(certificate, now));
    }
    write_events(&mut out, status, now);
    out
}

fn state_line(status: &MirrorStatus, now: Timestamp) -> String {
    let state = match status.state {
        MirrorState::Starting => "starting",
        MirrorState::Ready => "ready",
        MirrorState::Degraded => "degraded",
        MirrorState::Draining => "draining",
    };
    let MirrorStatus { version, pid, .. } = status;
    let started = Moment::new(status.started_at, now);
    let reloaded = status.reloaded_at.map(|at| format!(", configuration reloaded {}", Moment::new(at, now)));
    format!("{state}: srm-mirror {version}, process {pid}, started {started}{}\n", reloaded.unwrap_or_default())
}

/// Writes each upstream with its queues and credentials.
fn write_upstreams(out: &mut String, status: &MirrorStatus, now: Timestamp) {
    let width = status.upstreams.iter().map(|upstream| upstream.name.chars().count()).max().unwrap_or_default();
    for upstream in &status.upstreams {
        let _ = writeln!(out, "{:width$}  {}", upstream.name, upstream_line(upstream, now));
        for QueueStats { places, waiting, .. } in &upstream.queues {
            let _ = writeln!(out, "{:width$}  {waiting} requests wait for a place for {places}", "");
        }
        for credential in &upstream.credentials {
            let _ = writeln!(out, "{:width$}  {}", "", credential_line(credential));
        }
    }
}

fn certificate_line(CertificateState { name, not_after }: &CertificateState, now: Timestamp) -> String {
    match not_after {
        Some(end) if *end < now => format!("certificate {name} has ended on {end:.0}"),
        Some(end) => {
            format!("certificate {name} ends in {} d ({end:.0})", end.duration_since(now).as_hours() / 24)
        }
        None => format!("certificate {name}: its end cannot be read"),
    }
}

/// Writes what was counted and logged since the start.
fn write_events(out: &mut String, status: &MirrorStatus, now: Timestamp) {
    let _ = writeln!(out, "{} stale answers since the start", status.stale_answers);
    for (limit, count) in &status.refused {
        let _ = writeln!(out, "clients.{limit}: {count} refused since the start");
    }
    if status.audit_lost > 0 {
        let _ = writeln!(out, "audit log: {} events lost since the start", status.audit_lost);
    }
    for FailedPublicationRow { package, version, by, at, reason } in &status.failed_publications {
        let _ = writeln!(out, "{package} {version}, published by {by} {}, failed: {reason}", Moment::new(*at, now));
    }
    let skipped = status.recent.len().saturating_sub(MAX_PRINTED_EVENTS);
    for LoggedEvent { at, level, text } in &status.recent[skipped..] {
        let _ = writeln!(out, "  {at:.0} {level} {text}");
    }
}

fn shared_bucket_line(shared: &SharedBucketState, now: Timestamp) -> String {
    let mut parts = vec![shared.describe()];
    if let Some(at) = shared.answered_at {
        parts.push(format!("last answer {}", Moment::new(at, now)));
    }
    if let (Some(at), Some(failure)) = (shared.failed_at, &shared.failure) {
        parts.push(format!("last failure {}: {failure}", Moment::new(at, now)));
    }
    parts.push(format!("{} requests answered, {} failed", shared.answered, shared.failed));
    let queue = &shared.queue;
    parts.push(format!("{} zips wait for their upload, {} of {}", shared.queued, size(queue.bytes), size(queue.limit)));
    parts.join("; ")
}

fn upstream_line(upstream: &UpstreamState, now: Timestamp) -> String {
    let UpstreamState { answered_at, failure, answered, failed, .. } = upstream;
    let mut parts = vec![upstream.describe()];
    if upstream.pause.is_none() && answered_at.is_none() && failure.is_none() {
        return parts.concat();
    }
    if let Some(at) = answered_at {
        parts.push(format!("last answer {}", Moment::new(*at, now)));
    }
    if let Some(failure) = failure {
        parts.push(format!("last failure {}: {}", Moment::new(failure.at, now), failure.message));
    }
    parts.push(format!("{answered} requests answered, {failed} failed"));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin_api::{FailureCode, SpaceUse, UpstreamFailure, UpstreamPause};

    fn upstream(name: &str) -> UpstreamState {
        UpstreamState {
            name: name.into(),
            answered_at: None,
            failure: None,
            pause: None,
            answered: 0,
            failed: 0,
            queues: Vec::new(),
            credentials: Vec::new(),
        }
    }

    #[test]
    fn the_text_says_which_upstream_does_not_answer_and_since_when() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().expect("a time");
        let at = |seconds: i64| now - jiff::SignedDuration::from_secs(seconds);
        let failure =
            UpstreamFailure { at: at(4), code: FailureCode::UpstreamTimeout, message: "upstream timed out".into() };
        let github = UpstreamState {
            answered_at: Some(at(180)),
            failure: Some(failure),
            pause: Some(UpstreamPause { code: FailureCode::UpstreamTimeout, seconds: 7 }),
            answered: 10,
            failed: 5,
            ..upstream("github")
        };
        let status = MirrorStatus {
            state: MirrorState::Degraded,
            reasons: vec!["github does not answer".into()],
            version: "1.0.0".into(),
            pid: 7,
            started_at: at(90_000),
            reloaded_at: Some(at(7200)),
            upstreams: vec![github, upstream("official")],
            disk: SpaceUse { bytes: 0, limit: 1 << 30 },
            memory: SpaceUse { bytes: 0, limit: 1 << 20 },
            shared: Some(SharedBucketState {
                answered_at: Some(at(180)),
                failed_at: Some(at(4)),
                failure: Some("the bucket cannot be reached".into()),
                paused_seconds: Some(2),
                answered: 9,
                failed: 3,
                queued: 1,
                queue: SpaceUse { bytes: 1 << 20, limit: 1 << 30 },
            }),
            fleet: Some(FleetState { nodes: 3, read: 3, sent: 4, failed: 1 }),
            downloads: 2,
            stale_answers: 3,
            refused: [("requests".to_owned(), 4)].into(),
            audit_lost: 0,
            certificates: vec![
                CertificateState { name: "CN=mirror.example".into(), not_after: Some(at(-90_000)) },
                CertificateState { name: "number 2".into(), not_after: Some(at(60)) },
            ],
            failed_publications: Vec::new(),
            recent: vec![LoggedEvent { at: at(4), level: "warn".into(), text: "upstream request failed".into() }],
        };
        let text = text(&status, now);
        for line in [
            "degraded: srm-mirror 1.0.0, process 7, started 1 day ago, configuration reloaded 2 h ago\n",
            "  github does not answer\n",
            "github    does not answer (upstream-timeout), asked again in 7 s; last answer 3 min ago; last failure just \
             now: upstream timed out; 10 requests answered, 5 failed\n",
            "official  not asked yet\n",
            "certificate CN=mirror.example ends in 1 d (2026-01-03T13:00:00Z)\n",
            "shared bucket does not work, asked again in 2 s; last answer 3 min ago; last failure just now: the bucket \
             cannot be reached; 9 requests answered, 3 failed; 1 zips wait for their upload, 1.0 MiB of 1.0 GiB\n",
            "fleet of 3: 3 zips read from other nodes, 4 sent to them, 1 attempts failed\n",
            "certificate number 2 has ended on 2026-01-02T11:59:00Z\n",
            "3 stale answers since the start\n",
            "clients.requests: 4 refused since the start\n",
            "  2026-01-02T11:59:56Z warn upstream request failed\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in:\n{text}");
        }
    }
}
