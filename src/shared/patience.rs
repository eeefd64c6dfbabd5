//! Repeats requests of long work, so that it goes on after a short failure of the bucket.

use std::time::Duration;

use tokio::time::sleep;

use super::BucketError;

/// How often a request is tried while the bucket fails.
const PATIENT_ATTEMPTS: u32 = 5;
/// Longest sum of the pauses: longer than a pause of the bucket's breaker.
const MAX_PATIENCE: Duration = Duration::from_secs(35);
/// The first pause after a failure; each further one is twice as long.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(250);

/// An error that may be one of the bucket.
pub trait MaybeBucketError: From<BucketError> {
    /// The error of the bucket.
    ///
    /// # Errors
    /// Itself, where it is another one.
    fn into_bucket_error(self) -> Result<BucketError, Self>;
}

impl MaybeBucketError for BucketError {
    fn into_bucket_error(self) -> Result<BucketError, Self> {
        Ok(self)
    }
}

/// Sends a request again while the bucket fails. Waits for 35 s at most between the attempts, however long each takes.
///
/// # Errors
/// The last one of the bucket, when the attempts or the time are used up, or when the bucket refuses the request; at
/// once an error that is not the bucket's.
pub async fn with_patience<T, E: MaybeBucketError, F>(mut request: impl FnMut() -> F) -> Result<T, E>
where
    // No `AsyncFnMut`: the future of one does not move between threads.
    F: Future<Output = Result<T, E>>,
{
    let mut waited = Duration::ZERO;
    let mut failures = 0;
    loop {
        let error = match request().await {
            Ok(value) => return Ok(value),
            Err(error) => error.into_bucket_error()?,
        };
        let pause = FIRST_RETRY_PAUSE * 2_u32.pow(failures);
        failures += 1;
        let pause = match error {
            BucketError::Paused { retry_after } => retry_after.max(pause),
            BucketError::Unreachable | BucketError::TimedOut | BucketError::Status(500..) => pause,
            _ => return Err(error.into()),
        };
        waited += pause;
        if failures == PATIENT_ATTEMPTS || waited > MAX_PATIENCE {
            return Err(error.into());
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_is_left_alone_is_waited_for_at_most_35_s() {
        for (retry_after, attempts) in [(0, 5), (4, 5), (12, 3), (30, 2), (60, 1)] {
            let begun = Instant::now();
            let mut count = 0;
            let request = || {
                count += 1;
                async move { Err::<(), _>(BucketError::Paused { retry_after: Duration::from_secs(retry_after) }) }
            };
            let error = with_patience(request).await.expect_err("it fails");
            assert!(matches!(error, BucketError::Paused { .. }), "{error}");
            assert_eq!(count, attempts, "{retry_after}");
            assert!(begun.elapsed() <= MAX_PATIENCE, "{retry_after}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_long_and_fails_is_sent_again() {
        let mut outcomes = [Err(BucketError::Unreachable), Ok(7)].into_iter();
        let request = || {
            let outcome = outcomes.next().expect("no further request");
            async move {
                sleep(Duration::from_secs(600)).await;
                outcome
            }
        };
        assert_eq!(with_patience(request).await.expect("sent again"), 7);
    }
}
