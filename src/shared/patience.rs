//! Work that takes long goes on after a short failure of the bucket.

use std::time::Duration;

use tokio::time::sleep;

use super::BucketError;

/// How often a request is tried while the bucket fails.
const PATIENT_ATTEMPTS: u32 = 5;
/// The first pause after a failure; each further one is twice as long.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(250);

/// An error that may be one of the bucket.
pub trait MaybeBucketError: From<BucketError> {
    /// The error of the bucket.
    ///
    /// # Errors
    /// Itself, where it is another one.
    fn bucket(self) -> Result<BucketError, Self>;
}

impl MaybeBucketError for BucketError {
    fn bucket(self) -> Result<BucketError, Self> {
        Ok(self)
    }
}

/// Sends a request again while the bucket fails, for some seconds.
///
/// # Errors
/// The last one, when the request was tried often enough, or the bucket does not fail but refuses; or another one than the
/// bucket's.
pub async fn with_patience<T, E: MaybeBucketError, F>(mut request: impl FnMut() -> F) -> Result<T, E>
where
    // No `AsyncFnMut`: the future of one does not move between threads.
    F: Future<Output = Result<T, E>>,
{
    let mut failures = 0;
    loop {
        let error = match request().await {
            Ok(value) => return Ok(value),
            Err(error) => error.bucket()?,
        };
        let pause = FIRST_RETRY_PAUSE * 2_u32.pow(failures);
        failures += 1;
        let pause = match error {
            _ if failures == PATIENT_ATTEMPTS => return Err(error.into()),
            BucketError::Paused { retry_after } => retry_after.max(pause),
            BucketError::Unreachable | BucketError::TimedOut | BucketError::Status(500..) => pause,
            _ => return Err(error.into()),
        };
        sleep(pause).await;
    }
}
