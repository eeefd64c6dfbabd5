//! Captures the log of this process while a test reads it. All tests share one log, so a test must filter for a text of its own.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use tracing_subscriber::{
    Layer as _,
    filter::{Targets, dynamic_filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::captured::CapturedOutput;

static LOG: OnceLock<CapturedOutput> = OnceLock::new();
/// The tests that read the log at present: to write every event at level trace would slow all others down.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// The capture goes on until this is dropped.
#[must_use]
pub struct KeptLog(());

impl Drop for KeptLog {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Captures the log, at level trace.
pub fn keep() -> KeptLog {
    READERS.fetch_add(1, Ordering::SeqCst);
    LOG.get_or_init(|| {
        let log = CapturedOutput::default();
        let writer = log.clone();
        let is_read = dynamic_filter_fn(|_, _| READERS.load(Ordering::SeqCst) > 0);
        let layer = fmt::layer().json().with_writer(move || writer.clone()).with_filter(is_read);
        let filter = "srm_mirror=trace,hyper=trace,reqwest=trace".parse::<Targets>().expect("a filter");
        tracing_subscriber::registry().with(filter).with(layer).init();
        log
    });
    KeptLog(())
}

/// The captured lines that contain `text`.
pub fn lines(text: &str) -> Vec<String> {
    let log = LOG.get().expect("keep() was called");
    log.with(|log| log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect())
}
