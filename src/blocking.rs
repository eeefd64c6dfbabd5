//! Work that may block, on Tokio's threads for it.
//!
//! Tokio's code for a task takes some 3 KB of the executable for each type of work. Here the type is erased, so it is
//! compiled once.

use std::{
    any::Any,
    io,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::task::{JoinError, JoinHandle};

type ErasedWork = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Running work. Dropping it changes nothing for the work.
#[derive(Debug)]
pub(crate) struct BlockingTask<T> {
    task: JoinHandle<Box<dyn Any + Send>>,
    result: PhantomData<fn() -> T>,
}

/// Runs `work`, which may block, as [`tokio::task::spawn_blocking`] does.
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> BlockingTask<T> {
    let work: ErasedWork = Box::new(move || Box::new(work()));
    BlockingTask { task: spawn(work), result: PhantomData }
}

/// Runs blocking work that fails with an [`io::Error`]; a panic of the work becomes such an error.
///
/// Dropping the future does not stop the work.
pub(crate) async fn run_blocking_io<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

fn spawn(work: ErasedWork) -> JoinHandle<Box<dyn Any + Send>> {
    tokio::task::spawn_blocking(work)
}

impl<T> BlockingTask<T> {
    /// True when the work has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T: 'static> Future for BlockingTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.task).poll(cx));
        // Cannot fail: `spawn_blocking` alone makes a task, and its work returns a `T`.
        Poll::Ready(done.map(|result| *result.downcast().expect("the result of the work")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_result_of_the_work_is_returned_and_a_panic_is_an_error() {
        assert_eq!(spawn_blocking(|| "done".to_owned()).await.expect("no panic"), "done");
        let failed = spawn_blocking(|| -> u8 { panic!("for a test") }).await;
        assert!(failed.expect_err("a panic").is_panic());
    }
}
