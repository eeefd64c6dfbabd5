//! The send time-out of one HTTP/2 stream.
//!
//! A client may stop reading one response while other streams of its connection go on. hyper then waits for the stream's
//! window and does not poll the body, so neither the connection's time-out nor the body can end the stream. hyper runs
//! each stream as a task of its own: here that task ends, too, when the client takes none of the body for too long.
//! Dropping a stream resets it (`CANCEL`) and frees what it had buffered.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    static STREAM: Arc<StreamProgress>;
}

/// Runs the streams of HTTP/2 connections on the current runtime, each with the send time-out.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    pub(super) send_timeout: Duration,
}

/// Since when a stream waits for its client.
#[derive(Debug, Default)]
pub(super) struct StreamProgress {
    /// `None` while the mirror has to act.
    waiting_since: Mutex<Option<Instant>>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let progress = Arc::new(StreamProgress::default());
        let send_timeout = self.send_timeout;
        tokio::spawn(STREAM.scope(progress.clone(), async move {
            tokio::select! {
                // In this order: the stream's turn may start or end a wait, which the time-out then sees.
                biased;
                () = stream => {}
                () = progress.stalled(send_timeout) => tracing::debug!("a stream was not read in time"),
            }
        }));
    }
}

impl StreamProgress {
    /// The progress of the stream that the present task serves; `None` for HTTP/1.
    pub(super) fn current() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// Records that the client has taken what it had, and that the mirror or the client has to act next.
    pub(super) fn set_waiting_for_mirror(&self, waiting: bool) {
        *self.waiting_since.lock() = (!waiting).then(Instant::now);
    }

    /// Waits until the client has taken nothing for `timeout`. Must be polled after each turn of the stream: the start of
    /// a wait does not wake it.
    fn stalled(&self, timeout: Duration) -> impl Future<Output = ()> + Send {
        // Boxed, and made only for a stream that waits at all.
        let mut timer = None;
        poll_fn(move |cx| {
            loop {
                let deadline = self.waiting_since.lock().and_then(|since| since.checked_add(timeout));
                let Some(deadline) = deadline else { return Poll::Pending };
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                ready!(timer.as_mut().poll(cx));
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                // There was progress since the timer was set.
                timer.as_mut().reset(deadline);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_a_stream_that_waits_for_its_client_is_ended_and_progress_starts_the_time_anew() {
        let (ended, end) = tokio::sync::oneshot::channel::<Instant>();
        let started = Instant::now();
        StreamExecutor { send_timeout: 10 * SECOND }.execute(async move {
            /// Reports when the stream is dropped.
            struct Dropped(Option<tokio::sync::oneshot::Sender<Instant>>);
            impl Drop for Dropped {
                fn drop(&mut self) {
                    let _ = self.0.take().expect("once").send(Instant::now());
                }
            }
            let _dropped = Dropped(Some(ended));
            let progress = StreamProgress::current().expect("a stream");
            tokio::time::sleep(100 * SECOND).await;
            for _ in 0..5 {
                progress.set_waiting_for_mirror(false);
                tokio::time::sleep(9 * SECOND).await;
            }
            progress.set_waiting_for_mirror(true);
            tokio::time::sleep(100 * SECOND).await;
            progress.set_waiting_for_mirror(false);
            std::future::pending::<()>().await;
        });
        let took = end.await.expect("ended") - started;
        assert_eq!(took.as_secs(), 100 + 5 * 9 + 100 + 10);
    }
}
