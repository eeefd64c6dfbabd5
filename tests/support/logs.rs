//! Captures the log of this process. All tests share one log, so a test must filter for a text of its own.

use std::sync::OnceLock;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::captured::CapturedOutput;

static LOG: OnceLock<CapturedOutput> = OnceLock::new();

/// Starts the capture, at level trace.
pub fn keep() {
    LOG.get_or_init(|| {
        let log = CapturedOutput::default();
        let writer = log.clone();
        let layer = fmt::layer().json().with_writer(move || writer.clone());
        let filter = EnvFilter::new("srm_mirror=trace,hyper=trace,reqwest=trace");
        tracing_subscriber::registry().with(filter).with(layer).init();
        log
    });
}

/// The captured lines that contain `text`.
pub fn lines(text: &str) -> Vec<String> {
    let log = LOG.get().expect("keep() was called").text();
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
