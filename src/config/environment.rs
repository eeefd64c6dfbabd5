//! The process's environment variables, read once at start.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use super::error::ConfigError;

/// The variable that tokio itself reads.
const WORKER_THREADS_VARIABLE: &str = "TOKIO_WORKER_THREADS";

/// Maximum of `TOKIO_WORKER_THREADS`: each thread has file descriptors of its own, and more threads than processors
/// gain nothing.
const MAX_WORKER_THREADS: usize = 256;

/// Environment variables: those of the process, or any others in tests.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of a variable; `None` when it is unset, empty or not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(OsStr::new(name)).and_then(|value| value.to_str()).filter(|value| !value.is_empty())
    }

    /// Removes a variable; false when it is not set.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.0.remove(OsStr::new(name)).is_some()
    }

    /// All variables.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Checks `TOKIO_WORKER_THREADS`, which tokio reads itself: tokio panics on an invalid value.
    ///
    /// # Errors
    /// When it is set and not a number of threads from 1 to 256.
    pub(super) fn check_worker_threads(&self) -> Result<(), ConfigError> {
        let Some(text) = self.0.get(OsStr::new(WORKER_THREADS_VARIABLE)) else { return Ok(()) };
        let count = text.to_str().and_then(|text| text.parse().ok());
        if count.is_some_and(|count: usize| (1..=MAX_WORKER_THREADS).contains(&count)) {
            return Ok(());
        }
        let reason = format!("{text:?} is not a number of threads; write 1 to {MAX_WORKER_THREADS}, or unset it");
        Err(ConfigError::Variable { name: WORKER_THREADS_VARIABLE, reason })
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
