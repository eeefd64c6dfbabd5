//! The last resort of a test that has nothing to wait for: looks again until a deadline.

use std::time::Duration;

/// Asks until the answer is yes.
///
/// # Panics
/// When it is still no after half a minute.
pub async fn eventually(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let ends = tokio::time::Instant::now() + Duration::from_secs(30);
    while !asked().await {
        assert!(tokio::time::Instant::now() < ends, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
