//! A future that is polled only after its own waker was called.
//!
//! A connection's task is woken for every request. Its other futures (shutdown, timeouts) would be polled each time:
//! locks and timers that, with a thousand connections, are in no CPU cache.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Wraps a future so that it is polled at first and after each wake-up of its own. Must stay in the task that polled it
/// last.
pub(super) struct PollOnWake<F> {
    future: Pin<Box<F>>,
    flag: Arc<WakeFlag>,
    /// Sets `flag` and wakes the task.
    waker: Waker,
}

struct WakeFlag {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> PollOnWake<F> {
    pub(super) fn new(future: F) -> Self {
        let flag = Arc::new(WakeFlag { woken: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future: Box::pin(future), waker: Waker::from(flag.clone()), flag }
    }
}

impl<F: Future> Future for PollOnWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Load before swap, so the common case does not dirty the cache line.
        if !self.flag.woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // In this order: a wake-up after the swap either finds the registered task or is seen by the poll below. A wake-up
        // takes the registered waker away.
        self.flag.woken.swap(false, Ordering::AcqRel);
        self.flag.task.register(cx.waker());
        let this = &mut *self;
        this.future.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn the_future_is_polled_when_it_is_woken_and_at_no_other_time() {
        let (sender, mut receiver) = oneshot::channel::<u8>();
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = polls.clone();
        let mut future = PollOnWake::new(std::future::poll_fn(move |cx| {
            counter.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut receiver).poll(cx)
        }));
        for _ in 0..5 {
            assert!(futures_util::poll!(&mut future).is_pending());
        }
        assert_eq!(polls.load(Ordering::SeqCst), 1, "only the first time");
        sender.send(7).expect("received");
        assert_eq!(future.await, Ok(7));
        assert_eq!(polls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_future_may_be_woken_any_number_of_times() {
        let task = tokio::spawn(async {
            let mut future = PollOnWake::new(async {
                for _ in 0..5 {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            });
            tokio::select! {
                biased;
                () = std::future::pending() => {}
                () = &mut future => {}
            }
        });
        let day = std::time::Duration::from_secs(86_400);
        tokio::time::timeout(day, task).await.expect("woken each time").expect("no panic");
    }

    #[tokio::test]
    async fn a_sleeping_task_is_woken_by_the_future() {
        let (sender, receiver) = oneshot::channel::<u8>();
        let task = tokio::spawn(async move {
            let mut future = PollOnWake::new(receiver);
            tokio::select! {
                biased;
                () = std::future::pending() => None,
                received = &mut future => received.ok(),
            }
        });
        tokio::task::yield_now().await;
        sender.send(7).expect("received");
        assert_eq!(task.await.expect("no panic"), Some(7));
    }
}
