//! Periodic work: flushes pending updates, compacts the pins journal and shrinks the index.

use std::{io, sync::Arc};

use tracing::warn;

use super::{index::Index, layout::Layout, pins::PinStore, space::Space, usage_flush::UsageFlush};

/// The work that is done every half minute.
pub(super) struct Maintenance {
    layout: Arc<Layout>,
    index: Arc<Index>,
    pins: Arc<PinStore>,
    space: Arc<Space>,
    flush: Arc<UsageFlush>,
}

impl Maintenance {
    pub(super) fn new(
        layout: Arc<Layout>,
        index: Arc<Index>,
        pins: Arc<PinStore>,
        space: Arc<Space>,
        flush: Arc<UsageFlush>,
    ) -> Self {
        Self { layout, index, pins, space, flush }
    }

    /// Does all of the work. Blocks.
    ///
    /// # Errors
    /// When pending updates cannot be written.
    pub(super) fn run(&self) -> io::Result<()> {
        let flushed = self.flush.run();
        if let Err(cause) = self.pins.compact(&self.layout.next_staging_path()) {
            warn!(%cause, "the pins journal cannot be compacted");
        }
        match self.index.shrink() {
            Ok(()) => self.space.resize_index_reservation(),
            Err(cause) => warn!(%cause, "the index cannot be made smaller"),
        }
        flushed
    }
}
