//! When calls to an upstream last succeeded and failed, for administration.

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::origin::FetchError;

/// The last calls of one upstream.
#[derive(Debug, Default)]
pub(super) struct LastCalls(Mutex<CallTimes>);

/// When calls to an upstream last succeeded and failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallTimes {
    /// The last answer that could be used; that something does not exist is one. `None` before the first.
    pub answered_at: Option<Timestamp>,
    /// The last failure; `None` before the first.
    pub failure: Option<FailedCall>,
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCall {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub error: FetchError,
}

impl LastCalls {
    /// Records the outcome of a call. Outcomes without a request to the upstream say nothing about it.
    pub(super) fn note(&self, error: Option<&FetchError>) {
        let now = Timestamp::now();
        match error {
            None | Some(FetchError::NotFound(_) | FetchError::Blocked) => self.0.lock().answered_at = Some(now),
            Some(
                FetchError::Busy { .. }
                | FetchError::CoolingDown { .. }
                | FetchError::Offline { .. }
                | FetchError::NoMemory { .. },
            ) => {}
            Some(error) => self.0.lock().failure = Some(FailedCall { at: now, error: error.clone() }),
        }
    }

    pub(super) fn times(&self) -> CallTimes {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::origin::Missing;

    #[test]
    fn an_absence_is_an_answer_and_a_full_queue_says_nothing_of_the_upstream() {
        let calls = LastCalls::default();
        calls.note(Some(&FetchError::Busy { retry_after: Duration::from_secs(1) }));
        assert_eq!(calls.times(), CallTimes::default());
        calls.note(Some(&FetchError::NotFound(Missing::Version)));
        calls.note(Some(&FetchError::Status(500)));
        let CallTimes { answered_at, failure } = calls.times();
        assert!(answered_at.is_some());
        assert_eq!(failure.map(|failure| failure.error), Some(FetchError::Status(500)));
    }
}
