//! Reservations that all mirrors of a primary store have in common: one object per version holds the present one. It is
//! replaced by comparison, so one principal has a version at a time, a newer reservation ends the earlier one, and of
//! several uploads to one address one spends it.
//!
//! All functions block.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    HostedStore, PublishForm, VersionNumber,
    primary_store::CONTENDED,
    primary_store::{PrimaryUnavailable, PrimaryWrite, update},
};
use crate::entry::Digest;

/// A version that waits for its zip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SharedReservation {
    /// Identifies it; never used before.
    pub(crate) id: String,
    /// The principal.
    pub(crate) by: String,
    /// When it ends.
    pub(crate) expires_at: Timestamp,
    /// What is recorded beside the zip.
    pub(crate) form: PublishForm,
    /// The digest of the fields of `publish.yaml`, which must be those in the zip.
    pub(crate) manifest: Digest,
    /// The use of the reservation, once a whole zip has arrived: a text that no other use has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spent: Option<String>,
}

/// Why a version is not reserved.
#[derive(Debug)]
pub(crate) enum ReservingError {
    /// This principal has reserved it.
    Reserved(String),
    /// The primary store cannot be used.
    Unavailable(PrimaryUnavailable),
}

/// Whether this use of a reservation is the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReservationUse {
    /// It is.
    First,
    /// The reservation was used, or there is a newer one.
    Ended,
}

impl From<PrimaryUnavailable> for ReservingError {
    fn from(error: PrimaryUnavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl SharedReservation {
    fn is_open(&self, now: Timestamp) -> bool {
        self.spent.is_none() && now < self.expires_at
    }

    fn text(&self) -> Vec<u8> {
        // The keys of all maps are strings, so serialising cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The open reservation of a version; `package` in any case. `None` without a primary store.
///
/// # Errors
/// When the primary store cannot be used.
pub(crate) fn reservation(
    store: &HostedStore,
    package: &str,
    version: &VersionNumber,
    now: Timestamp,
) -> Result<Option<SharedReservation>, PrimaryUnavailable> {
    let Some(primary) = &store.primary else { return Ok(None) };
    let object = primary.objects.read(&object_name(package, version))?;
    Ok(parse(object.as_ref().map(|object| &*object.bytes)).filter(|found| found.is_open(now)))
}

/// Reserves a version, in place of an earlier reservation of the same principal. Without a primary store, does nothing.
///
/// # Errors
/// [`ReservingError`].
pub(crate) fn reserve(
    store: &HostedStore,
    package: &str,
    version: &VersionNumber,
    new: &SharedReservation,
    now: Timestamp,
) -> Result<(), ReservingError> {
    let Some(primary) = &store.primary else { return Ok(()) };
    let mut other = None;
    let written = update(&*primary.objects, &object_name(package, version), &mut |old| match parse(old) {
        // The answer to the write was lost.
        Some(found) if found.id == new.id => None,
        Some(found) if found.is_open(now) && found.by != new.by => {
            other = Some(found.by);
            None
        }
        _ => Some(new.text()),
    })?;
    match (other, written) {
        (Some(by), _) => Err(ReservingError::Reserved(by)),
        (None, PrimaryWrite::Done) => Ok(()),
        (None, PrimaryWrite::Refused) => Err(CONTENDED.into()),
    }
}

/// Moves the end of a reservation whose zip is arriving; one that has ended stays so. Without a primary store, does
/// nothing.
///
/// # Errors
/// When the primary store cannot be used.
pub(crate) fn extend(
    store: &HostedStore,
    package: &str,
    version: &VersionNumber,
    id: &str,
    expires_at: Timestamp,
) -> Result<(), PrimaryUnavailable> {
    let Some(primary) = &store.primary else { return Ok(()) };
    let written = update(&*primary.objects, &object_name(package, version), &mut |old| {
        let found = parse(old).filter(|found| found.id == id && found.spent.is_none())?;
        (found.expires_at < expires_at).then(|| SharedReservation { expires_at, ..found }.text())
    })?;
    if written == PrimaryWrite::Done { Ok(()) } else { Err(CONTENDED) }
}

/// Spends a reservation: of all uses of one, the first counts.
///
/// # Errors
/// When the primary store cannot be used; the use may count then.
pub(crate) fn spend(
    store: &HostedStore,
    package: &str,
    version: &VersionNumber,
    id: &str,
) -> Result<ReservationUse, PrimaryUnavailable> {
    let Some(primary) = &store.primary else { return Ok(ReservationUse::First) };
    let own = Digest::unique().to_string();
    let mut used = ReservationUse::Ended;
    let written = update(&*primary.objects, &object_name(package, version), &mut |old| {
        let found = parse(old).filter(|found| found.id == id);
        // After a write whose answer was lost, it is spent by this use.
        let is_own = found.as_ref().is_some_and(|found| found.spent.as_ref().is_none_or(|spent| *spent == own));
        used = if is_own { ReservationUse::First } else { ReservationUse::Ended };
        let found = found.filter(|found| found.spent.is_none())?;
        Some(SharedReservation { spent: Some(own.clone()), form: PublishForm::default(), ..found }.text())
    })?;
    if written == PrimaryWrite::Done { Ok(used) } else { Err(CONTENDED) }
}

fn object_name(package: &str, version: &VersionNumber) -> String {
    format!("hosted/reservations/{}/{version}.json", package.to_ascii_lowercase())
}

/// Parses the object; one that cannot be read counts as none, and is replaced.
fn parse(text: Option<&[u8]>) -> Option<SharedReservation> {
    serde_json::from_slice(text?).ok()
}
