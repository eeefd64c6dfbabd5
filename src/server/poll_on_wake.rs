//! A future that is polled only when it has itself asked for it.
//!
//! A connection's task is woken for every request. What else it waits for (the end of the server, its clock) would be
//! looked at each time: locks and timers that are in nobody's cache when there are a thousand connections.

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

/// A future beside another one in the same task. It must stay in the task that polled it last.
pub(super) struct PollOnWake<F> {
    future: Pin<Box<F>>,
    bell: Arc<WakeFlag>,
    waker: Waker,
}

/// Wakes the task and remembers who wanted it.
struct WakeFlag {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> PollOnWake<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(WakeFlag { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future: Box::pin(future), waker: Waker::from(bell.clone()), bell }
    }
}

impl<F: Future> Future for PollOnWake<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // A load first: it leaves the line where it is, and is all there is to do for nearly every request.
        if !self.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // In this order: who rings from here on finds the task's waker, or is heard by the poll below. A ring takes the
        // waker away.
        self.bell.rung.swap(false, Ordering::AcqRel);
        self.bell.task.register(cx.waker());
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
    async fn what_is_aside_is_polled_when_it_is_woken_and_at_no_other_time() {
        let (tell, mut told) = oneshot::channel::<u8>();
        let polls = Arc::new(AtomicUsize::new(0));
        let seen = polls.clone();
        let mut aside = PollOnWake::new(std::future::poll_fn(move |cx| {
            seen.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut told).poll(cx)
        }));
        for _ in 0..5 {
            assert!(futures_util::poll!(&mut aside).is_pending());
        }
        assert_eq!(polls.load(Ordering::SeqCst), 1, "only to begin with");
        tell.send(7).expect("heard");
        assert_eq!(aside.await, Ok(7));
        assert_eq!(polls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_may_be_woken_any_number_of_times() {
        let task = tokio::spawn(async {
            let mut aside = PollOnWake::new(async {
                for _ in 0..5 {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            });
            tokio::select! {
                biased;
                () = std::future::pending() => {}
                () = &mut aside => {}
            }
        });
        let day = std::time::Duration::from_secs(86_400);
        tokio::time::timeout(day, task).await.expect("woken each time").expect("no panic");
    }

    #[tokio::test]
    async fn a_task_that_sleeps_is_woken_by_what_is_aside() {
        let (tell, told) = oneshot::channel::<u8>();
        let task = tokio::spawn(async move {
            let mut aside = PollOnWake::new(told);
            tokio::select! {
                biased;
                () = std::future::pending() => None,
                told = &mut aside => told.ok(),
            }
        });
        tokio::task::yield_now().await;
        tell.send(7).expect("heard");
        assert_eq!(task.await.expect("no panic"), Some(7));
    }
}
