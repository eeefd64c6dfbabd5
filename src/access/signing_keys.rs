//! The keys that sign addresses, in a file of `access/`: the newest signs, and the others verify what they signed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    OpenAccessError, token_file,
    token_text::{self, NoRandom},
};

/// The file in `access/`.
const SIGNING_KEYS_FILE: &str = "signing-keys.json";
/// Bytes of a key.
const SIGNING_KEY_BYTES: usize = 32;
/// Most keys that are stored.
const MAX_SIGNING_KEYS: usize = 8;

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) id: String,
    /// In base64.
    key: String,
    pub(super) created_at: Timestamp,
}

/// The form of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKeys {
    keys: Vec<StoredKey>,
}

/// A key that is in use.
pub(super) struct SigningKey {
    pub(super) id: String,
    pub(super) key: hmac::Key,
}

/// The keys, the newest first.
pub(super) struct KeyRing {
    keys: Vec<SigningKey>,
    stored: Vec<StoredKey>,
    /// From when on the newest signs; until then the one before it does.
    newest_signs_from: Instant,
}

/// The keys of one mirror.
pub(super) struct SigningKeys {
    path: PathBuf,
    ring: ArcSwap<KeyRing>,
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKeys").finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Reads the keys in `access/`. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenAccessError> {
        let path = dir.join(SIGNING_KEYS_FILE);
        let StoredKeys { keys } = token_file::read(&path)?;
        let ring = KeyRing::build(keys, Duration::ZERO)
            .ok_or(OpenAccessError::Invalid { path: path.clone(), reason: "a key in it is not 32 bytes in base64" })?;
        Ok(Self { path, ring: ArcSwap::from_pointee(ring) })
    }

    /// The keys at present.
    pub(super) fn load(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// The keys as they are stored, the newest first.
    pub(super) fn stored(&self) -> Vec<StoredKey> {
        self.ring.load().stored.clone()
    }

    /// Writes these keys and uses them. The newest one signs after `wait`, when the other mirrors have it, too. Blocks.
    ///
    /// # Errors
    /// When a key is malformed, or the file cannot be written.
    pub(super) fn take_over(&self, keys: Vec<StoredKey>, wait: Duration) -> io::Result<()> {
        if self.ring.load().stored == keys {
            return Ok(());
        }
        let ring = KeyRing::build(keys.clone(), wait).ok_or(io::ErrorKind::InvalidData)?;
        token_file::write(&self.path, &StoredKeys { keys })?;
        self.ring.store(Arc::new(ring));
        Ok(())
    }
}

impl KeyRing {
    fn build(stored: Vec<StoredKey>, wait: Duration) -> Option<Self> {
        let key = |stored: &StoredKey| {
            let bytes = URL_SAFE_NO_PAD.decode(&stored.key).ok().filter(|bytes| bytes.len() == SIGNING_KEY_BYTES)?;
            Some(SigningKey { id: stored.id.clone(), key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
        };
        let newest_signs_from = Instant::now() + wait;
        Some(Self { keys: stored.iter().map(key).collect::<Option<_>>()?, stored, newest_signs_from })
    }

    /// The key that signs at present.
    pub(super) fn signing(&self) -> Option<&SigningKey> {
        let is_known_to_all = Instant::now() >= self.newest_signs_from;
        self.keys.get(1).filter(|_| !is_known_to_all).or(self.keys.first())
    }

    /// The key with an id.
    pub(super) fn by_id(&self, id: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|known| known.id == id)
    }
}

/// Makes a new key, and returns it and the earlier ones. Of these, those are left out whose addresses have all expired:
/// `lifetime` after they signed last.
///
/// # Errors
/// [`NoRandom`].
pub(super) fn rotate(
    earlier: &[StoredKey],
    lifetime: SignedDuration,
    now: Timestamp,
) -> Result<Vec<StoredKey>, NoRandom> {
    let key = URL_SAFE_NO_PAD.encode(token_text::random_bytes::<SIGNING_KEY_BYTES>()?);
    let mut keys = vec![StoredKey { id: token_text::random_text(4)?, key, created_at: now }];
    // A key signs until the next one is made; its last address is valid for one lifetime more.
    let mut replaced_at = now;
    for key in earlier.iter().take(MAX_SIGNING_KEYS - 1) {
        if now.duration_since(replaced_at) <= lifetime {
            keys.push(key.clone());
        }
        replaced_at = key.created_at;
    }
    Ok(keys)
}

/// The keys of two lists, the newest first.
pub(super) fn merge(one: &[StoredKey], other: &[StoredKey]) -> Vec<StoredKey> {
    let mut keys = one.to_vec();
    keys.extend(other.iter().filter(|key| one.iter().all(|known| known.id != key.id)).cloned());
    keys.sort_by_key(|key| std::cmp::Reverse(key.created_at));
    keys.truncate(MAX_SIGNING_KEYS);
    keys
}
