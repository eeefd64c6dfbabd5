//! The one log event of a request, written when its answer has ended.

use std::{net::SocketAddr, time::Instant};

use http::{Response, header, request::Parts};

use super::Exchange;
use crate::{
    dialect::{Ask, Dialect},
    http::body::{Body, End},
    observe::{self, AccessEvent, Outcome},
};

/// Arranges that the event is written at the end of the answer. Costs nothing while the level is off.
pub(super) fn observe(
    response: Response<Body>,
    parts: &Parts,
    client: SocketAddr,
    exchange: Exchange,
) -> Response<Body> {
    let Some(started) = exchange.started else { return response };
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (agent, method, status) = (text(header::USER_AGENT), parts.method.clone(), response.status().as_u16());
    let first_byte_ms = millis(started);
    response.map(|body| {
        body.watched(move |ended| {
            let ask = exchange.route.as_ref().map(|route| &route.ask);
            let package = ask.and_then(Ask::package);
            let name = package.map(|package| package.name.to_string());
            let version = ask.and_then(version);
            let field = exchange.cache.as_ref().map(|cache| cache.render(super::CACHE_NAME));
            observe::access(&AccessEvent {
                request_id: &exchange.id.to_string(),
                client,
                user_agent: agent.as_deref(),
                method: method.as_str(),
                dialect: exchange.route.as_ref().map(|route| dialect(route.dialect, &route.ask)),
                upstream: package.map(|package| &*package.upstream),
                package: name.as_deref(),
                version: version.as_deref(),
                status,
                cache: exchange.cache.as_ref().map(|cache| cache.label()),
                cache_status: field.as_ref().and_then(|value| value.to_str().ok()),
                upstream_status: exchange.cache.as_ref().and_then(|cache| cache.fwd_status),
                bytes: ended.sent,
                duration_ms: millis(started),
                first_byte_ms: Some(first_byte_ms),
                outcome: match ended.end {
                    End::Complete => Outcome::Complete,
                    End::Aborted => Outcome::Aborted,
                    End::Broken => Outcome::Broken,
                },
            });
        })
    })
}

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn dialect(dialect: Dialect, ask: &Ask) -> &'static str {
    match (dialect, ask) {
        (_, Ask::Ops(_)) => "ops",
        (Dialect::Srm, _) => "srm",
        (Dialect::Github(_), _) => "github",
        (Dialect::Simple, _) => "simple",
        (Dialect::V3, _) => "v3",
    }
}

fn version(ask: &Ask) -> Option<String> {
    match ask {
        Ask::Tag { version, .. }
        | Ask::Archive { version, .. }
        | Ask::Flat { version, .. }
        | Ask::Metadata { version: Some(version), .. } => Some(version.to_string()),
        _ => None,
    }
}
