//! The attempts of one call: with the credential that suits it best, then with others, at last without any.

use std::cmp::Reverse;

use super::{ANONYMOUS, Activation, CredentialPool, Identity, is_used_up};
use crate::{
    origin::{FetchError, Missing},
    package::PackageName,
};

/// Most attempts of one call that confirm a 401.
const MAX_REPEATS: u32 = 2;

/// Chooses the identity of each attempt of one call, and decides whether another attempt follows.
pub(in crate::upstream) struct CallAttempts<'a> {
    pool: &'a CredentialPool,
    package: Option<&'a PackageName>,
    /// The slots that are not tried yet, the best first.
    left: std::vec::IntoIter<usize>,
    anonymous_left: bool,
    present: Option<Identity>,
    /// The slot of the present credential.
    present_slot: Option<usize>,
    /// The slot of a credential whose 401 is to be confirmed.
    repeated_slot: Option<usize>,
    repeats: u32,
    /// Why a credential could not be used.
    trouble: Option<FetchError>,
    /// What a usable credential could not see.
    absent: Option<FetchError>,
}

/// What follows an attempt.
pub(in crate::upstream) enum NextStep<T> {
    /// The call has this result.
    Finished(Result<T, FetchError>),
    /// Another attempt.
    TryNext,
}

impl CredentialPool {
    /// The attempts of a call about a package. `fingerprint` is that of the credential which fetched the stored document:
    /// it is preferred, because its validators hold only for it.
    pub(in crate::upstream) fn attempts<'a>(
        &'a self,
        package: Option<&'a PackageName>,
        fingerprint: Option<&str>,
    ) -> CallAttempts<'a> {
        let owner = package.and_then(PackageName::owner);
        let seen_by = package.and_then(|package| self.seen_by(package));
        let credentials = self.credentials();
        // A call about no package is made without a credential.
        let mut slots: Vec<usize> = if package.is_some() { (0..credentials.len()).collect() } else { Vec::new() };
        // The sort is stable: equal credentials keep the order of the configuration.
        slots.sort_by_key(|&slot| {
            let credential = &credentials[slot];
            let limiter = credential.limiter(owner);
            let has_quota = limiter.is_none_or(|limiter| limiter.check().is_ok() && !is_used_up(limiter.quota()));
            let has_seen = seen_by == Some(credential.serial);
            let has_fetched = fingerprint.is_some() && credential.fingerprint(owner).as_deref() == fingerprint;
            Reverse((has_quota, has_seen, has_fetched))
        });
        CallAttempts {
            pool: self,
            package,
            left: slots.into_iter(),
            anonymous_left: true,
            present: None,
            present_slot: None,
            repeated_slot: None,
            repeats: 0,
            trouble: None,
            absent: None,
        }
    }
}

impl CallAttempts<'_> {
    /// The identity of the next attempt.
    ///
    /// # Errors
    /// The result of the call when none is left. What no credential could see counts as absent only if every credential
    /// could be used: a refused or paused one might see it.
    pub(in crate::upstream) async fn next(&mut self) -> Result<Identity, FetchError> {
        let owner = self.package.and_then(PackageName::owner);
        while let Some(slot) = self.repeated_slot.take().or_else(|| self.left.next()) {
            let credential = self.pool.slots[slot].present.read().clone();
            match self.pool.activate(&credential, owner).await {
                Activation::Ready(active) => {
                    let identity = Identity::Credential(active.into());
                    self.present = Some(identity.clone());
                    self.present_slot = Some(slot);
                    return Ok(identity);
                }
                Activation::NotForOwner => {}
                Activation::Unusable(error) => self.trouble = reported(self.trouble.take(), error),
            }
        }
        // A credential that was accepted has seen all that is public.
        if self.absent.is_none() && std::mem::take(&mut self.anonymous_left) {
            match self.pool.anonymous.check() {
                Ok(()) => {
                    let identity = self.pool.anonymous();
                    self.present = Some(identity.clone());
                    self.present_slot = None;
                    return Ok(identity);
                }
                Err(error) => self.trouble = reported(self.trouble.take(), error),
            }
        }
        let absent = self.absent.take().unwrap_or(FetchError::NotFound(Missing::Package));
        Err(self.trouble.take().unwrap_or(absent))
    }

    /// Takes the result of an attempt.
    pub(in crate::upstream) fn end<T>(&mut self, result: Result<T, FetchError>) -> NextStep<T> {
        let Some(identity) = self.present.clone() else { return NextStep::Finished(result) };
        let error = match result {
            Ok(value) => {
                self.note_seen(identity.serial());
                return NextStep::Finished(Ok(value));
            }
            // The repository exists.
            Err(error @ FetchError::NotFound(Missing::Release)) => {
                self.note_seen(identity.serial());
                return NextStep::Finished(Err(error));
            }
            Err(error) => error,
        };
        if identity.take_ask_again() && self.repeats < MAX_REPEATS {
            self.repeats += 1;
            self.repeated_slot = self.present_slot;
            return NextStep::TryNext;
        }
        if let FetchError::NotFound(_) = error {
            let seen_by = self.package.and_then(|package| self.pool.seen_by(package));
            if self.pool.is_empty() || seen_by == Some(identity.serial()) {
                return NextStep::Finished(Err(error));
            }
            if identity.serial() == ANONYMOUS {
                let trouble = self.trouble.take();
                return NextStep::Finished(Err(trouble.unwrap_or(error)));
            }
            self.absent = Some(error);
            return NextStep::TryNext;
        }
        if identity.is_unusable() {
            self.trouble = reported(self.trouble.take(), error);
            return NextStep::TryNext;
        }
        NextStep::Finished(Err(error))
    }

    fn note_seen(&self, serial: u64) {
        if let Some(package) = self.package {
            self.pool.note_seen(package, serial);
        }
    }
}

/// The error to report of two identities that cannot be used: a pause, which ends by itself, before a refusal; the
/// shorter pause of two.
fn reported(known: Option<FetchError>, error: FetchError) -> Option<FetchError> {
    use FetchError::Throttled;
    Some(match (known, error) {
        (Some(Throttled { retry_after: one }), Throttled { retry_after: other }) => {
            Throttled { retry_after: one.min(other) }
        }
        (Some(known), error) if !matches!(error, Throttled { .. }) => known,
        (_, error) => error,
    })
}
