//! Captures the log of this process. All tests share one log, so a test must filter for a text of its own.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl io::Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static LOG: OnceLock<CapturedLog> = OnceLock::new();

/// Starts the capture, at level trace.
pub fn keep() {
    LOG.get_or_init(|| {
        let log = CapturedLog::default();
        let writer = log.clone();
        let layer = fmt::layer().json().with_writer(move || writer.clone());
        let filter = EnvFilter::new("srm_mirror=trace,hyper=trace,reqwest=trace");
        tracing_subscriber::registry().with(filter).with(layer).init();
        log
    });
}

/// The captured lines that contain `text`.
pub fn lines(text: &str) -> Vec<String> {
    let log = LOG.get().expect("keep() was called").0.lock().clone();
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
