//! Versions that are reserved for the zip that follows: between the two steps in which the command line client publishes.
//!
//! In memory: a restart ends every reservation, and its upload address with it, unless several mirrors share them
//! ([`super::shared_reservations`]).

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{PublishableVersion, PublishingError, publishing_error::NotReserved};
use crate::{entry::Digest, hosted::PublishForm};

/// Most reservations of one principal.
const MAX_RESERVATIONS_OF_PRINCIPAL: usize = 5;
/// Most reservations ...
const MAX_RESERVATIONS: usize = 1000;
/// ... and most bytes of the notes that are kept with them.
const MAX_RESERVED_BYTES: usize = 16 << 20;

/// What a client has announced about the zip that follows.
#[derive(Clone, Debug)]
pub(crate) struct AnnouncedPackage {
    /// What is recorded beside the zip.
    pub(crate) form: PublishForm,
    /// The digest of the fields of `publish.yaml`, which must be those in the zip.
    pub(crate) manifest: Digest,
}

/// A version that is to be reserved.
#[derive(Clone, Debug)]
pub(crate) struct NewReservation {
    /// Identifies the reservation; never used before.
    pub(crate) id: String,
    /// The principal that publishes.
    pub(crate) by: String,
    /// When it ends, unless the zip is arriving then.
    pub(crate) expires_at: Timestamp,
    /// What the zip must be.
    pub(crate) announced: AnnouncedPackage,
}

/// The reserved versions, each by its package in lower case and its number.
#[derive(Debug, Default)]
pub(crate) struct ReservedVersions(Mutex<HashMap<String, ReservedVersion>>);

/// A reservation that an account has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnReservation {
    /// [`PublishableVersion::key`].
    pub(super) key: String,
    /// The id of the reservation.
    pub(super) id: String,
}

#[derive(Debug)]
struct ReservedVersion {
    reservation: NewReservation,
    /// True while its zip arrives.
    uploading: Arc<AtomicBool>,
}

/// A reservation whose zip is arriving. Dropping it ends the upload and leaves the reservation.
#[derive(Debug)]
pub(super) struct ReservationInUse {
    pub(super) announced: AnnouncedPackage,
    id: String,
    uploading: Arc<AtomicBool>,
}

impl Drop for ReservationInUse {
    fn drop(&mut self) {
        self.uploading.store(false, Ordering::Release);
    }
}

impl ReservedVersion {
    fn is_open(&self, now: Timestamp) -> bool {
        now < self.reservation.expires_at || self.uploading.load(Ordering::Acquire)
    }

    fn bytes(&self) -> usize {
        self.reservation.announced.form.version_body.len()
    }
}

impl ReservedVersions {
    /// Checks that no other principal has reserved a version.
    ///
    /// # Errors
    /// [`PublishingError::Reserved`].
    pub(crate) fn check(&self, version: &PublishableVersion, by: &str, now: Timestamp) -> Result<(), PublishingError> {
        match self.0.lock().get(&version.key()) {
            Some(reserved) if reserved.is_open(now) && reserved.reservation.by != by => {
                Err(PublishingError::Reserved(reserved.reservation.by.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Reserves a version, in place of an earlier reservation of the same principal whose zip is not arriving.
    ///
    /// # Errors
    /// [`PublishingError`], when another principal has reserved it, its zip is arriving, or there are too many reservations.
    pub(crate) fn reserve(
        &self,
        version: &PublishableVersion,
        reservation: NewReservation,
        now: Timestamp,
    ) -> Result<(), PublishingError> {
        let key = version.key();
        let mut versions = self.0.lock();
        versions.retain(|_, reserved| reserved.is_open(now));
        match versions.get(&key) {
            Some(reserved) if reserved.reservation.by != reservation.by => {
                return Err(PublishingError::Reserved(reserved.reservation.by.clone()));
            }
            // Both uploads would fail: the first at its end, the second while the first goes on.
            Some(reserved) if reserved.uploading.load(Ordering::Acquire) => {
                return Err(PublishingError::BeingPublished);
            }
            _ => {}
        }
        versions.remove(&key);
        let of_principal = versions.values().filter(|reserved| reserved.reservation.by == reservation.by).count();
        if of_principal >= MAX_RESERVATIONS_OF_PRINCIPAL {
            return Err(PublishingError::TooManyReservations(MAX_RESERVATIONS_OF_PRINCIPAL));
        }
        let reserved = ReservedVersion { reservation, uploading: Arc::default() };
        let bytes = reserved.bytes() + versions.values().map(ReservedVersion::bytes).sum::<usize>();
        if versions.len() >= MAX_RESERVATIONS || bytes > MAX_RESERVED_BYTES {
            return Err(PublishingError::TooManyUploads);
        }
        versions.insert(key, reserved);
        Ok(())
    }

    /// Removes the reservation of a version by another principal, unless its zip is arriving: the primary store decides who
    /// has reserved the version.
    pub(super) fn forget_others(&self, version: &PublishableVersion, by: &str) {
        self.remove_if(&version.key(), |reserved| {
            reserved.reservation.by != by && !reserved.uploading.load(Ordering::Acquire)
        });
    }

    /// Removes the reservation with this id of the version with this [`PublishableVersion::key`].
    pub(super) fn cancel(&self, key: &str, id: &str) {
        self.remove_if(key, |reserved| reserved.reservation.id == id);
    }

    /// The reservations of a principal whose zips are not arriving.
    pub(super) fn list_waiting(&self, by: &str) -> Vec<OwnReservation> {
        let versions = self.0.lock();
        let waiting = versions.iter().filter(|(_, reserved)| !reserved.uploading.load(Ordering::Acquire));
        let own = waiting.filter(|(_, reserved)| reserved.reservation.by == by);
        own.map(|(key, reserved)| OwnReservation { key: key.clone(), id: reserved.reservation.id.clone() }).collect()
    }

    fn remove_if(&self, key: &str, is_removed: impl Fn(&ReservedVersion) -> bool) {
        let mut versions = self.0.lock();
        if versions.get(key).is_some_and(is_removed) {
            versions.remove(key);
        }
    }

    /// Begins the upload to a reservation that another mirror has made, in place of any earlier one.
    ///
    /// # Errors
    /// [`PublishingError`], when its zip is arriving, or there are too many reservations.
    pub(super) fn adopt_and_begin(
        &self,
        version: &PublishableVersion,
        reservation: NewReservation,
        now: Timestamp,
    ) -> Result<ReservationInUse, PublishingError> {
        let id = reservation.id.clone();
        {
            let mut versions = self.0.lock();
            versions.retain(|_, reserved| reserved.is_open(now));
            let reserved = ReservedVersion { reservation, uploading: Arc::default() };
            let bytes = reserved.bytes() + versions.values().map(ReservedVersion::bytes).sum::<usize>();
            if versions.len() >= MAX_RESERVATIONS || bytes > MAX_RESERVED_BYTES {
                return Err(PublishingError::TooManyUploads);
            }
            let key = version.key();
            // Two requests may have adopted it at the same time.
            if versions.get(&key).is_none_or(|known| known.reservation.id != id) {
                versions.insert(key, reserved);
            }
        }
        Ok(self.begin(version, &id)?)
    }

    /// Begins the upload to a reservation.
    ///
    /// # Errors
    /// [`NotReserved`].
    pub(super) fn begin(&self, version: &PublishableVersion, id: &str) -> Result<ReservationInUse, NotReserved> {
        let versions = self.0.lock();
        let reserved = versions.get(&version.key()).filter(|reserved| reserved.reservation.id == id);
        let reserved = reserved.ok_or(NotReserved::Ended)?;
        if reserved.uploading.swap(true, Ordering::AcqRel) {
            return Err(NotReserved::Uploading);
        }
        Ok(ReservationInUse {
            announced: reserved.reservation.announced.clone(),
            id: id.to_owned(),
            uploading: reserved.uploading.clone(),
        })
    }

    /// Ends a reservation whose zip has arrived.
    ///
    /// # Errors
    /// [`NotReserved::Ended`], when the version was reserved again since.
    pub(super) fn end(&self, version: &PublishableVersion, used: &ReservationInUse) -> Result<(), NotReserved> {
        let key = version.key();
        let mut versions = self.0.lock();
        if versions.get(&key).is_none_or(|reserved| reserved.reservation.id != used.id) {
            return Err(NotReserved::Ended);
        }
        versions.remove(&key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::package::{PackageId, PackageName};

    fn version(package: &str, number: &str) -> PublishableVersion {
        let name = PackageName::plain(package).expect("a name");
        PublishableVersion {
            package: PackageId { upstream: "hosted".into(), name },
            version: number.parse().expect("a version"),
        }
    }

    fn reservation(id: &str, by: &str, now: Timestamp) -> NewReservation {
        NewReservation {
            id: id.into(),
            by: by.into(),
            expires_at: now + SignedDuration::from_mins(10),
            announced: AnnouncedPackage { form: PublishForm::default(), manifest: Digest([0; 32]) },
        }
    }

    #[test]
    fn a_version_is_reserved_for_one_principal_until_it_expires() {
        let versions = ReservedVersions::default();
        let now = Timestamp::UNIX_EPOCH;
        let one = version("acme-x", "1.0.0");
        versions.reserve(&one, reservation("a", "token:a", now), now).expect("reserved");
        let other = version("ACME-X", "1.0.0");
        for refused in
            [versions.check(&other, "token:b", now), versions.reserve(&other, reservation("b", "token:b", now), now)]
        {
            assert!(matches!(&refused, Err(PublishingError::Reserved(by)) if by == "token:a"), "{refused:?}");
        }
        // The same principal again: not while the zip arrives, and the earlier address does not hold any more.
        let used = versions.begin(&one, "a").expect("begins");
        let again = versions.reserve(&one, reservation("c", "token:a", now), now);
        assert!(matches!(again, Err(PublishingError::BeingPublished)), "{again:?}");
        drop(used);
        versions.reserve(&one, reservation("c", "token:a", now), now).expect("reserved");
        assert_eq!(versions.begin(&one, "a").err(), Some(NotReserved::Ended));
        let used = versions.begin(&one, "c").expect("begins");
        assert_eq!(versions.begin(&one, "c").err(), Some(NotReserved::Uploading));
        // A zip that arrives keeps its reservation beyond its end.
        let late = now + SignedDuration::from_mins(11);
        assert!(versions.check(&one, "token:b", late).is_err());
        drop(used);
        versions.check(&one, "token:b", late).expect("expired");
        let used = versions.begin(&one, "c").expect("nothing else has reserved it");
        versions.end(&one, &used).expect("ends");
        assert_eq!(versions.begin(&one, "c").err(), Some(NotReserved::Ended));
    }

    #[test]
    fn a_principal_has_five_reservations_and_the_table_is_bounded() {
        let versions = ReservedVersions::default();
        let now = Timestamp::UNIX_EPOCH;
        let reserve = |number: usize, by: &str, at: Timestamp| {
            let version = version(&format!("acme-{number}"), "1.0.0");
            versions.reserve(&version, reservation(&number.to_string(), by, at), at)
        };
        for number in 0..5 {
            reserve(number, "token:a", now).expect("reserved");
        }
        assert!(matches!(reserve(5, "token:a", now), Err(PublishingError::TooManyReservations(5))));
        reserve(4, "token:a", now).expect("the same version again");
        reserve(5, "token:a", now + SignedDuration::from_mins(10)).expect("the others have expired");
        for number in 0..MAX_RESERVATIONS + 5 {
            let reserved = reserve(1000 + number, &format!("token:{number}"), now);
            assert_eq!(reserved.is_err(), number + 1 >= MAX_RESERVATIONS, "{number}: {reserved:?}");
        }
    }
}
