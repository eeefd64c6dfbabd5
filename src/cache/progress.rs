//! How far a spool has grown, for the verifier that reads it on a blocking thread.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use crate::{origin::Growing, storage::BlobFile};

#[derive(Clone, Copy, Debug)]
enum Stage {
    Growing,
    Whole,
    GivenUp,
}

/// The number of bytes written so far and whether more will come.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<(u64, Stage)>,
    changed: Condvar,
}

/// The writing side: dropping it before [`ProgressWriter::finish`] tells the readers that the body was given up.
#[derive(Debug)]
pub(super) struct ProgressWriter(Arc<Progress>);

/// The reading side: a file that is read no further than it has been written.
pub(super) struct SpoolView {
    file: Arc<BlobFile>,
    progress: Arc<Progress>,
}

/// The two sides of one spool's progress.
pub(super) fn growing(file: Arc<BlobFile>) -> (ProgressWriter, SpoolView) {
    let progress = Arc::new(Progress { state: Mutex::new((0, Stage::Growing)), changed: Condvar::new() });
    (ProgressWriter(progress.clone()), SpoolView { file, progress })
}

impl ProgressWriter {
    /// `written` bytes are there now.
    pub(super) fn advance(&self, written: u64) {
        self.0.set(|state| state.0 = written);
    }

    /// Nothing more will come and what is there is the whole body.
    pub(super) fn finish(&self) {
        self.0.set(|state| state.1 = Stage::Whole);
    }
}

impl Drop for ProgressWriter {
    fn drop(&mut self) {
        self.0.set(|state| {
            if matches!(state.1, Stage::Growing) {
                state.1 = Stage::GivenUp;
            }
        });
    }
}

impl Progress {
    fn set(&self, change: impl FnOnce(&mut (u64, Stage))) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until more than `offset` bytes are there or the end is known.
    fn wait_beyond(&self, offset: u64) -> io::Result<(u64, Stage)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self
            .changed
            .wait_while(state, |(written, stage)| *written <= offset && matches!(stage, Stage::Growing))
            .unwrap_or_else(PoisonError::into_inner);
        match *state {
            (_, Stage::GivenUp) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the download was given up")),
            reached => Ok(reached),
        }
    }
}

impl Growing for SpoolView {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (written, _) = self.progress.wait_beyond(offset)?;
        let there = usize::try_from(written.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_at(&mut buf[..there], offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.progress.wait_beyond(u64::MAX)?.0)
    }
}
