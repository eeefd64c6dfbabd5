//! What a pin becomes when something is fetched under its key.

use crate::{entry::Pin, storage::disk::PinEvent};

/// What is to be written down, given what was first seen: nothing when it says so already. The old pin is handed back
/// when its content is another.
pub(super) fn compare_with_pin(new: Pin, old: Option<Pin>) -> Result<Vec<(PinEvent, Pin)>, Box<Pin>> {
    match old {
        None => Ok(vec![(PinEvent::Pin, new)]),
        Some(old) if old.verified.manifest != new.verified.manifest => Err(Box::new(old)),
        Some(old) if old.digest == new.digest => Ok(Vec::new()),
        Some(old) => Ok(vec![(PinEvent::Packing, Pin { digest: new.digest, len: new.len, ..old })]),
    }
}
