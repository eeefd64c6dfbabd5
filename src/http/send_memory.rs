//! The memory of response bytes that wait for an HTTP/2 client.
//!
//! hyper polls the body of a stream as far as the client's window and its own buffer allow, whether or not the socket takes
//! anything, so a client with many streams makes the mirror hold much. Each part of a body has a share of a budget, from
//! before it is made until its last byte is sent.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::value::memory_budget::{MemoryBudget, MemoryShare, MemoryShortage};

/// A part of fewer bytes is not counted: it is less than what a stream takes anyway.
const MIN_COUNTED_BYTES: u64 = 4 << 10;

/// Takes shares for the parts of one body.
pub(super) struct SendMemory {
    budget: MemoryBudget,
    /// The share of the next part.
    share: Option<MemoryShare>,
    waiting: Option<BoxFuture<'static, Result<MemoryShare, MemoryShortage>>>,
}

impl SendMemory {
    /// Without a share.
    pub(super) fn new(budget: MemoryBudget) -> Self {
        Self { budget, share: None, waiting: None }
    }

    /// Takes a share for a part of about this many bytes, unless there is one.
    ///
    /// # Errors
    /// When no share becomes free in time.
    pub(super) fn poll_reserve(&mut self, cx: &mut Context<'_>, bytes: u64) -> Poll<Result<(), MemoryShortage>> {
        if let Some(waiting) = &mut self.waiting {
            let share = ready!(waiting.poll_unpin(cx));
            self.waiting = None;
            self.share = Some(share?);
        }
        if self.share.is_some() || bytes < MIN_COUNTED_BYTES {
            return Poll::Ready(Ok(()));
        }
        let mut share = self.budget.share();
        if share.try_grow_to(bytes).is_ok() {
            self.share = Some(share);
            return Poll::Ready(Ok(()));
        }
        self.waiting = Some(Box::pin(async move {
            share.grow_to(bytes).await?;
            Ok(share)
        }));
        self.poll_reserve(cx, bytes)
    }

    /// Gives back the share of a part that is not ready yet.
    pub(super) fn give_back(&mut self) {
        self.share = None;
    }

    /// The part, which holds its share until its last byte is dropped.
    pub(super) fn hold(&mut self, bytes: Bytes) -> Bytes {
        match self.share.take() {
            Some(mut share) => {
                share.shrink_to(bytes.len() as u64);
                share.hold(bytes)
            }
            None => bytes,
        }
    }
}
