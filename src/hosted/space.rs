//! The space for published zips: the quota, and the bytes that the file system must keep free.

use std::{io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

use super::copies::ZipCopies;

/// An upload takes space in steps of this many bytes.
const SPACE_STEP_BYTES: u64 = 4 << 20;

/// Counts stored zips and running uploads against the limits.
#[derive(Debug)]
pub(super) struct HostedSpace {
    dir: PathBuf,
    quota: u64,
    min_free: u64,
    used: Mutex<UsedBytes>,
    /// The copies that can be removed to make room; `None` where every zip must stay.
    copies: Option<Arc<ZipCopies>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct UsedBytes {
    stored: u64,
    uploading: u64,
}

/// Whether bytes were taken.
enum SpaceTaking {
    Taken,
    /// This many bytes are missing.
    Short(u64),
}

/// The space that one upload has taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct SpaceShare {
    space: Arc<HostedSpace>,
    taken: u64,
}

impl SpaceShare {
    pub(super) fn new(space: &Arc<HostedSpace>) -> Self {
        Self { space: space.clone(), taken: 0 }
    }

    /// Takes space for an upload of this length.
    ///
    /// # Errors
    /// [`HostedSpaceFull`].
    pub(super) fn grow(&mut self, len: u64) -> Result<(), HostedSpaceFull> {
        if len > self.taken {
            let needed = len - self.taken;
            let mut step = needed.next_multiple_of(SPACE_STEP_BYTES);
            if self.space.take(step).is_err() {
                // Near the limit, no more than is needed.
                step = needed;
                self.space.take(step)?;
            }
            self.taken += step;
        }
        Ok(())
    }
}

impl Drop for SpaceShare {
    fn drop(&mut self) {
        self.space.release(self.taken);
    }
}

/// Why bytes are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of published packages is full")]
pub(crate) struct HostedSpaceFull;

impl HostedSpace {
    pub(super) fn new(dir: PathBuf, quota: u64, min_free: u64, copies: Option<Arc<ZipCopies>>) -> Self {
        Self { dir, quota, min_free, used: Mutex::default(), copies }
    }

    /// Counts bytes of an upload before they are written. Removes copies that can be downloaded again to make room.
    ///
    /// # Errors
    /// [`HostedSpaceFull`] above the quota, or where the file system would have less than `min_free` left.
    pub(super) fn take(&self, bytes: u64) -> Result<(), HostedSpaceFull> {
        let SpaceTaking::Short(missing) = self.try_take(bytes) else { return Ok(()) };
        let copies = self.copies.as_ref().ok_or(HostedSpaceFull)?;
        copies.make_room(missing);
        self.set_stored(copies.bytes());
        match self.try_take(bytes) {
            SpaceTaking::Taken => Ok(()),
            SpaceTaking::Short(_) => Err(HostedSpaceFull),
        }
    }

    fn try_take(&self, bytes: u64) -> SpaceTaking {
        {
            let mut used = self.used.lock();
            let total = used.stored.saturating_add(used.uploading).saturating_add(bytes);
            if total > self.quota {
                return SpaceTaking::Short(total - self.quota);
            }
            used.uploading += bytes;
        }
        let wanted = self.min_free.saturating_add(bytes);
        match self.free_bytes() {
            Ok(free) if free < wanted => {
                self.release(bytes);
                SpaceTaking::Short(wanted - free)
            }
            _ => SpaceTaking::Taken,
        }
    }

    /// True when an upload that begins now could write.
    pub(super) fn has_room(&self) -> bool {
        let taken = self.take(1);
        if taken.is_ok() {
            self.release(1);
        }
        taken.is_ok()
    }

    /// Gives bytes of an upload back.
    pub(super) fn release(&self, bytes: u64) {
        let mut used = self.used.lock();
        used.uploading = used.uploading.saturating_sub(bytes);
    }

    /// Sets the bytes of the stored zips.
    pub(super) fn set_stored(&self, bytes: u64) {
        self.used.lock().stored = bytes;
    }

    /// Bytes that an unprivileged process may still write.
    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
