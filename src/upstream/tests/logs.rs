//! Log events: each failure once, without upstream text, tokens or addresses.

use tracing::subscriber::DefaultGuard;

use super::*;
use crate::observe::captured::CapturedOutput;

/// Collects this thread's events.
fn collect() -> (CapturedOutput, DefaultGuard) {
    let output = CapturedOutput::default();
    let writer = output.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (output, tracing::subscriber::set_default(subscriber))
}

/// The lines of this module's events.
fn lines_of_upstream(output: &CapturedOutput) -> Vec<String> {
    let text = output.text();
    text.lines().filter(|line| line.contains("srm_mirror::upstream")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_rate_limit_is_logged_once_with_its_end() {
    let (lines, _guard) = collect();
    let server = Server::start(|_| {
        Reply::error(403, "API rate limit exceeded for 192.0.2.1.")
            .with("x-ratelimit-remaining", "0")
            .with("x-ratelimit-reset", (Timestamp::now().as_second() + 100).to_string())
    })
    .await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    for _ in 0..3 {
        error(ask(&upstream, DocumentAsk::Releases, None).await);
    }
    let lines = lines_of_upstream(&lines);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    for part in [
        "WARN",
        "upstream=\"forge\"",
        "package=devsapp/fc3",
        "ask=\"releases\"",
        "status=403",
        "until=\"",
        "remaining=0",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains("192.0.2.1"), "{line}");
}

#[tokio::test]
async fn no_token_location_or_address_is_logged() {
    let (lines, _guard) = collect();
    let server = Server::start(|seen| match seen.target.as_str() {
        target if target.contains("zipball") => Reply::to(302, "https://files.forge.test/x?token=temporary"),
        target if target.contains("latest") => Reply::error(401, "Bad credentials: secret-token"),
        _ => Reply::new(200).end(ResponseEnd::Hangup),
    })
    .await;
    let upstream = with_token(&config(UpstreamKind::Github, &server.base()));
    error(ask(&upstream, DocumentAsk::Repository, None).await);
    error(zip(&upstream, tag("v1")).await);
    for _ in 0..2 {
        error(ask(&upstream, DocumentAsk::Latest, None).await);
    }
    let lines = lines_of_upstream(&lines);
    let doubts = lines.iter().filter(|line| line.contains("it is not used until")).count();
    assert_eq!((lines.len(), doubts), (5, 1), "{lines:#?}");
    for secret in ["secret-token", "temporary", "forge.test", "127.0.0.1", "Bad credentials"] {
        assert!(!lines.iter().any(|line| line.contains(secret)), "{secret} in {lines:#?}");
    }
}
