//! Polls a condition until a deadline, for tests without an event to wait for.

use std::time::Duration;

/// Polls `condition` until it is true.
///
/// # Panics
/// If it is false after 30 s.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
