//! The names of objects in the bucket.

use std::fmt;

use super::BucketError;
use crate::entry::{Digest, Key};

/// Longest name, bytes: the services' limit is 1024, less what `shared.prefix` may take.
const MAX_OBJECT_NAME_BYTES: usize = 800;

/// The name of an object, without the configured prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ObjectName(String);

impl ObjectName {
    /// An object by its name, as a list has it.
    pub(super) fn listed(name: String) -> Self {
        Self(name)
    }

    /// What the content of a version must be.
    pub(super) fn pin(key: &Key) -> Self {
        Self::of_key("pins", key)
    }

    /// Which zip is stored for a version.
    pub(super) fn claim(key: &Key) -> Self {
        Self::of_key("claims", key)
    }

    /// A document.
    pub(super) fn document(key: &Key) -> Self {
        Self::of_key("documents", key)
    }

    /// The recorded source of a name.
    pub(super) fn source(key: &Key) -> Self {
        Self::of_key("sources", key)
    }

    /// State that all mirrors have in common.
    pub(super) fn state(kind: &'static str) -> Self {
        Self(format!("state/{kind}.json"))
    }

    /// The mark of a nonce that was used.
    pub(super) fn nonce(nonce: &Digest) -> Self {
        Self(format!("nonces/{nonce}"))
    }

    /// An object of published packages: below `hosted/`, of letters, digits and `._-/`.
    ///
    /// # Errors
    /// `Damaged` when it is none.
    pub(super) fn of_hosted(name: &str) -> Result<Self, BucketError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        let has_bad_segment = name.split('/').any(|segment| segment.is_empty() || segment.starts_with('.'));
        let is_name = name.starts_with("hosted/") && name.len() <= MAX_OBJECT_NAME_BYTES && name.bytes().all(plain);
        if is_name && !has_bad_segment { Ok(Self(name.to_owned())) } else { Err(BucketError::Damaged) }
    }

    /// An object that is created and deleted to see what the service does.
    pub(super) fn probe(id: &str) -> Self {
        Self(format!("probe/{id}"))
    }

    /// The key that an object of a folder is of, by the object's name; `None` for another name, and for one that has
    /// the digest of its key.
    pub(super) fn key_in(folder: &str, name: &str) -> Option<Key> {
        let encoded = name.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".json")?;
        if encoded.strip_prefix('=').is_some_and(|digest| digest.parse::<Digest>().is_ok()) {
            return None;
        }
        let mut bytes = Vec::with_capacity(encoded.len());
        let mut left = encoded.bytes();
        while let Some(byte) = left.next() {
            bytes.push(match byte {
                b'=' => {
                    let digits = [left.next()?, left.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                byte => byte,
            });
        }
        let key = Key::new(String::from_utf8(bytes).ok()?);
        (Self::of_key(folder, &key).as_str() == name).then_some(key)
    }

    /// The name as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The key as part of a name: letters, digits, `-`, `_`, `/` and single dots stay, so that packages can be found
    /// by a prefix; every other byte is `=` and two hexadecimal digits. A name that would be too long has the key's digest
    /// in place of the key.
    fn of_key(folder: &str, key: &Key) -> Self {
        use fmt::Write as _;
        let mut name = format!("{folder}/");
        let mut before = b'/';
        for byte in key.as_str().bytes() {
            // No segment begins or ends with a dot, and none is empty: such segments are lost when addresses are parsed.
            let plain = byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'_')
                || (byte == b'.' && !matches!(before, b'/' | b'.'))
                || (byte == b'/' && before != b'/');
            if plain {
                name.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(name, "={byte:02X}");
            }
            before = byte;
        }
        if key.as_str().ends_with('/') && name.ends_with('/') {
            name.truncate(name.len() - 1);
            name.push_str("=2F");
        }
        if name.len() > MAX_OBJECT_NAME_BYTES {
            name = format!("{folder}/={}", Digest::of(key.as_str().as_bytes()));
        }
        Self(name + ".json")
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_name_of_a_plain_key_can_be_read() {
        let name = ObjectName::pin(&Key::new("github/devsapp/fc3/tag/v1.0.0"));
        assert_eq!(name.as_str(), "pins/github/devsapp/fc3/tag/v1.0.0.json");
    }

    #[test]
    fn no_segment_of_a_name_is_empty_or_made_of_dots() {
        for key in ["a/../b", "..", "a//b", "/a", "a/", "./a", "a/./b", "a...b/.", "ä/ü", "a b?c#d%e+f"] {
            let name = ObjectName::claim(&Key::new(key));
            let stem = name.as_str().strip_suffix(".json").expect("its ending");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=".contains(&byte);
            assert!(stem.bytes().all(plain), "{name}");
            assert!(stem.split('/').rev().skip(1).all(|segment| !matches!(segment, "" | "." | "..")), "{name}");
            assert!(!name.as_str().contains("/.") && !name.as_str().contains("//"), "{name}");
        }
    }

    #[test]
    fn a_long_key_has_a_short_name() {
        let one = ObjectName::pin(&Key::new("a".repeat(2000)));
        let other = ObjectName::pin(&Key::new("a".repeat(2001)));
        assert!(one.as_str().len() < MAX_OBJECT_NAME_BYTES);
        assert_ne!(one, other);
        assert_eq!(ObjectName::key_in("pins", one.as_str()), None);
    }

    proptest! {
        #[test]
        fn different_keys_have_different_names(keys in prop::collection::hash_set("[a.=/%ä]{1,8}", 2..40)) {
            let names: HashSet<_> = keys.iter().map(|key| ObjectName::pin(&Key::new(key.as_str()))).collect();
            prop_assert_eq!(names.len(), keys.len());
        }

        #[test]
        fn a_name_leads_back_to_its_key(text in "[a.=/%ä0-9F]{1,12}") {
            let key = Key::new(text);
            prop_assert_eq!(ObjectName::key_in("claims", ObjectName::claim(&key).as_str()), Some(key));
        }
    }
}
