//! How far a spool has grown, for the verifier that reads it on a blocking thread.

use std::{io, sync::Arc};

use parking_lot::{Condvar, Mutex};

use crate::{origin::Growing, storage::BlobFile};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpoolStage {
    Growing,
    Whole,
    Aborted,
}

#[derive(Clone, Copy, Debug)]
struct SpoolState {
    written: u64,
    stage: SpoolStage,
}

#[derive(Debug)]
struct SpoolProgress {
    state: Mutex<SpoolState>,
    changed: Condvar,
}

/// The writing side. Dropping it before [`ProgressWriter::finish`] fails the readers.
#[derive(Debug)]
pub(super) struct ProgressWriter(Arc<SpoolProgress>);

/// The reading side: the file, up to the bytes written so far.
pub(super) struct SpoolView {
    file: Arc<BlobFile>,
    progress: Arc<SpoolProgress>,
}

/// The two sides of one spool's progress.
pub(super) fn growing_spool(file: Arc<BlobFile>) -> (ProgressWriter, SpoolView) {
    let state = Mutex::new(SpoolState { written: 0, stage: SpoolStage::Growing });
    let progress = Arc::new(SpoolProgress { state, changed: Condvar::new() });
    (ProgressWriter(progress.clone()), SpoolView { file, progress })
}

impl ProgressWriter {
    /// Reports that `written` bytes are in the file.
    pub(super) fn advance(&self, written: u64) {
        self.0.update(|state| state.written = written);
    }

    /// Reports that the bytes in the file are the whole body.
    pub(super) fn finish(&self) {
        self.0.update(|state| state.stage = SpoolStage::Whole);
    }
}

impl Drop for ProgressWriter {
    fn drop(&mut self) {
        self.0.update(|state| {
            if state.stage == SpoolStage::Growing {
                state.stage = SpoolStage::Aborted;
            }
        });
    }
}

impl SpoolProgress {
    fn update(&self, change: impl FnOnce(&mut SpoolState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    /// Waits until more than `offset` bytes are written or the body has ended; returns how many are written.
    fn wait_beyond(&self, offset: u64) -> io::Result<u64> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.written <= offset && state.stage == SpoolStage::Growing);
        match state.stage {
            SpoolStage::Aborted => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the download was aborted")),
            SpoolStage::Growing | SpoolStage::Whole => Ok(state.written),
        }
    }
}

impl Growing for SpoolView {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let written = self.progress.wait_beyond(offset)?;
        let available = usize::try_from(written.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_at(&mut buf[..available], offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.progress.wait_beyond(u64::MAX)
    }
}
