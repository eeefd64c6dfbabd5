//! Everything that this process logs, for tests that read it. One log serves all tests: look for a name of your own.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while logging").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static KEPT: OnceLock<Kept> = OnceLock::new();

/// Begins to keep the log, at its most talkative.
pub fn keep() {
    KEPT.get_or_init(|| {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = fmt::layer().json().with_writer(move || writer.clone());
        let filter = EnvFilter::new("srm_mirror=trace,hyper=trace,reqwest=trace");
        tracing_subscriber::registry().with(filter).with(layer).init();
        kept
    });
}

/// The lines so far that contain a text.
pub fn lines(text: &str) -> Vec<String> {
    let kept = KEPT.get().expect("keep() was called").0.lock().expect("no panic while logging").clone();
    String::from_utf8_lossy(&kept).lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
