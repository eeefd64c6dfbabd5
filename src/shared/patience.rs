//! Work that takes long goes on after a short failure of the bucket.

use std::time::Duration;

use tokio::time::sleep;

use super::BucketError;

/// How often a request is tried while the bucket fails.
const PATIENT_ATTEMPTS: u32 = 5;
/// The first pause after a failure; each further one is twice as long.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The attempts at one request.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Patience {
    /// Waits until a request that has failed may be sent again.
    ///
    /// # Errors
    /// The error, when the request was tried often enough, or the bucket does not fail but refuses.
    pub async fn wait(&mut self, error: BucketError) -> Result<(), BucketError> {
        let pause = FIRST_RETRY_PAUSE * 2_u32.pow(self.failures);
        self.failures += 1;
        let pause = match error {
            _ if self.failures >= PATIENT_ATTEMPTS => return Err(error),
            BucketError::Paused { retry_after } => retry_after.max(pause),
            BucketError::Unreachable | BucketError::TimedOut | BucketError::Status(500..) => pause,
            _ => return Err(error),
        };
        sleep(pause).await;
        Ok(())
    }
}

/// Sends a request again while the bucket fails, for some seconds; for tasks that move between threads.
///
/// # Errors
/// The last one.
pub async fn with_patience<T, F>(mut request: impl FnMut() -> F) -> Result<T, BucketError>
where
    F: Future<Output = Result<T, BucketError>>,
{
    let mut patience = Patience::default();
    loop {
        match request().await {
            Ok(value) => return Ok(value),
            Err(error) => patience.wait(error).await?,
        }
    }
}

/// Sends a request again while the bucket fails, for some seconds.
pub(super) async fn patiently<T>(mut request: impl AsyncFnMut() -> Result<T, BucketError>) -> Result<T, BucketError> {
    let mut patience = Patience::default();
    loop {
        match request().await {
            Ok(value) => return Ok(value),
            Err(error) => patience.wait(error).await?,
        }
    }
}
