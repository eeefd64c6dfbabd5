//! Addresses that a version is uploaded to, once: the command line client sends no credentials with the zip.
//!
//! The query has the form of a signed address of a zip ([`super::addresses`]), with other claims:
//! `u.{key}.{expiry}.{limit}.{reservation}.{credential}.{mac}`. The MAC is of these and of the package and the version.
//! The credential is looked up when the address is used, and what its principal may do is evaluated then.

use std::sync::Arc;

use http::Uri;
use jiff::Timestamp;

use super::{
    Access, Caller, Principal, Right,
    address_credential::AddressCredential,
    addresses::SealedQuery,
    token_text::{self, NoRandom},
};

/// Part of every signed text, so that no signature of another use of the keys is valid here.
const UPLOAD_DOMAIN: &str = "srm-mirror upload address 1";
/// The form of these addresses.
const UPLOAD_FORM: char = 'u';
/// Characters of the id of a reservation.
const RESERVATION_ID_CHARS: usize = 20;

/// What may be uploaded to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadClaims {
    /// The id of the reservation that the address belongs to.
    pub(crate) reservation: String,
    /// Most bytes of the zip.
    pub(crate) max_bytes: u64,
    /// From when on the address does not hold.
    pub(crate) expires_at: Timestamp,
}

/// An address that was made by this mirror, or another of its bucket.
#[derive(Debug)]
pub(crate) struct UploadAddress {
    /// What may be uploaded. It may have expired.
    pub(crate) claims: UploadClaims,
    /// The principal that it was made for; `None` when its credential was revoked or has ended since.
    pub(crate) principal: Option<Arc<Principal>>,
}

/// Makes and reads upload addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadAddresses<'a>(&'a Access);

impl Access {
    /// The upload addresses of this mirror.
    pub(crate) fn upload_addresses(&self) -> UploadAddresses<'_> {
        UploadAddresses(self)
    }
}

impl UploadAddresses<'_> {
    /// True when a caller may publish some package; [`Access::grant`] says which.
    pub(crate) fn are_for(self, caller: &Caller) -> bool {
        !self.0.enabled || self.0.rules.give_for_some_package(caller, Right::Publish)
    }

    /// A new id for a reservation: letters and digits.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub(crate) fn new_reservation_id(self) -> Result<String, NoRandom> {
        token_text::random_text(RESERVATION_ID_CHARS)
    }

    /// The query of the address for a version, with a question mark before it; `None` when the principal's credential is too
    /// long for an address.
    pub(crate) fn sign(
        self,
        principal: &Principal,
        package: &str,
        version: &str,
        claims: &UploadClaims,
    ) -> Option<String> {
        let UploadClaims { reservation, max_bytes, expires_at } = claims;
        let text = format!("{:x}.{max_bytes:x}.{reservation}.{}", expires_at.as_second(), principal.address);
        self.0.addresses.seal(UPLOAD_DOMAIN, UPLOAD_FORM, &text, &subject(package, version))
    }

    /// Reads the query of an address; `None` when it was not made here for this version.
    pub(crate) fn read(self, uri: &Uri, package: &str, version: &str) -> Option<UploadAddress> {
        let query = SealedQuery::of(uri).filter(|query| query.form.chars().eq([UPLOAD_FORM]))?;
        let mut parts = query.claims.splitn(4, '.');
        let (Some(end), Some(limit), Some(reservation), Some(credential)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        if !self.0.addresses.has_sealed(UPLOAD_DOMAIN, &query, &subject(package, version)) {
            return None;
        }
        let claims = UploadClaims {
            reservation: reservation.to_owned(),
            max_bytes: u64::from_str_radix(limit, 16).ok()?,
            expires_at: Timestamp::from_second(i64::from_str_radix(end, 16).ok()?).ok()?,
        };
        let principal = self.0.principal_of(&AddressCredential::parse(credential)?, self.0.clock.now());
        Some(UploadAddress { claims, principal })
    }
}

/// The version that an address is signed for. Neither part has a slash.
fn subject(package: &str, version: &str) -> String {
    format!("{package}/{version}")
}
