//! Finds a loop of mirrors while a request waits for the fetch of another request.
//!
//! A request that came through mirrors names them, and a mirror refuses a request that came through itself. But a
//! request that joins a running fetch sends no request of its own: two mirrors that are each other's upstream, and are
//! asked for the same object at the same time, would each wait for the other until the time-out.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::timeout;

use crate::origin::{FetchError, Origin};

/// After this time without an answer, the object is requested a second time, to see whether the request goes in a loop.
const LOOP_CHECK_DELAY: Duration = Duration::from_secs(1);

/// Waits for what another request has begun to fetch. If that takes long, and requests to the origin may come back to this
/// mirror, sends the caller's request as well, which names the mirrors that it came through. Of its answer only
/// [`FetchError::Loop`] counts.
///
/// # Errors
/// [`FetchError::Loop`] when the caller's request went in a loop.
pub(super) async fn wait_unless_loop<F: 'static, T>(
    origin: &dyn Origin<Fetched = F>,
    wait: impl Future<Output = T>,
) -> Result<T, FetchError> {
    if !origin.may_come_back() {
        return Ok(wait.await);
    }
    let mut wait = pin!(wait);
    if let Ok(waited) = timeout(LOOP_CHECK_DELAY, &mut wait).await {
        return Ok(waited);
    }
    tokio::select! {
        waited = &mut wait => return Ok(waited),
        fetched = origin.fetch(None) => if let Err(FetchError::Loop) = fetched {
            return Err(FetchError::Loop);
        },
    }
    Ok(wait.await)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{entry::Document, origin::BoxFuture};

    struct ScriptedOrigin {
        may_come_back: bool,
        answer: Result<(), FetchError>,
        fetches: AtomicUsize,
    }

    impl ScriptedOrigin {
        fn new(may_come_back: bool, answer: Result<(), FetchError>) -> Self {
            Self { may_come_back, answer, fetches: AtomicUsize::new(0) }
        }
    }

    impl Origin for ScriptedOrigin {
        type Fetched = ();

        fn fetch<'a>(&'a self, _: Option<&'a Document>) -> BoxFuture<'a, Result<(), FetchError>> {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(self.answer.clone()))
        }

        fn may_come_back(&self) -> bool {
            self.may_come_back
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_ends_the_wait_and_nothing_else_does() {
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            "answered"
        };
        for (may_come_back, answer, expected, fetches) in [
            (true, Err(FetchError::Loop), Err(FetchError::Loop), 1),
            (true, Err(FetchError::Status(500)), Ok("answered"), 1),
            (true, Ok(()), Ok("answered"), 1),
            (false, Err(FetchError::Loop), Ok("answered"), 0),
        ] {
            let origin = ScriptedOrigin::new(may_come_back, answer);
            assert_eq!(wait_unless_loop(&origin, slow()).await, expected);
            assert_eq!(origin.fetches.load(Ordering::Relaxed), fetches);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_answers_at_once_is_not_asked_for_again() {
        let origin = ScriptedOrigin::new(true, Err(FetchError::Loop));
        assert_eq!(wait_unless_loop(&origin, async { "answered" }).await, Ok("answered"));
        assert_eq!(origin.fetches.load(Ordering::Relaxed), 0);
    }
}
