//! A writer that collects what a log writes. Unit tests mount this file, too.
#![allow(dead_code, unreachable_pub, reason = "mounted by several crates")]

use std::{io, sync::Arc};

use parking_lot::Mutex;

/// Collected output; clones share it.
#[derive(Clone, Default)]
pub struct CapturedOutput(Arc<Mutex<Vec<u8>>>);

impl CapturedOutput {
    /// What was written so far.
    pub fn text(&self) -> String {
        self.with(str::to_owned)
    }

    /// Reads what was written so far, in place.
    pub fn with<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        read(std::str::from_utf8(&self.0.lock()).expect("UTF-8"))
    }
}

impl io::Write for CapturedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
