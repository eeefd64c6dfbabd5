//! The names of the objects that hold zips.

use std::fmt;

use super::{BucketError, object_name::ObjectName};
use crate::entry::Digest;

/// The name of an object with the bytes of a digest: `blobs/ab/{digest}`, and `blobs/ab/{digest}.{n}` once earlier names are
/// never claimed again ([`super::marks`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlobName {
    pub(super) digest: Digest,
    /// The number at the end; zero without one.
    pub(super) generation: u32,
}

impl BlobName {
    /// The name as a claim or a list has it; `None` where it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (folder, rest) = text.strip_prefix("blobs/")?.split_once('/')?;
        let (digest, generation) = match rest.split_once('.') {
            Some((digest, generation)) => (digest, generation.parse().ok().filter(|generation| *generation > 0)?),
            None => (rest, 0),
        };
        let parsed = Self { digest: digest.parse().ok()?, generation };
        // One object has one name: no upper case, no zeros in front.
        (folder.len() == 2 && parsed.to_string() == text).then_some(parsed)
    }

    /// # Errors
    /// `Damaged` when the text is no such name.
    pub(super) fn of_claim(text: &str) -> Result<Self, BucketError> {
        Self::parse(text).ok_or(BucketError::Damaged)
    }

    pub(super) fn object(&self) -> ObjectName {
        ObjectName::listed(self.to_string())
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, generation } = self;
        write!(f, "blobs/{:02x}/{digest}", digest.0[0])?;
        if *generation > 0 { write!(f, ".{generation}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_parsed_as_it_is_written_and_no_other_text_is_one() {
        let digest = Digest::of(b"zip");
        for generation in [0, 1, 12, u32::MAX] {
            let name = BlobName { digest, generation };
            assert_eq!(BlobName::parse(&name.to_string()), Some(name));
            assert_eq!(name.object().as_str(), name.to_string());
        }
        let first = BlobName { digest, generation: 0 }.to_string();
        for wrong in [
            String::new(),
            format!("{first}."),
            format!("{first}.0"),
            format!("{first}.01"),
            format!("{first}.+1"),
            format!("{first}.1.2"),
            format!("{first}/x"),
            first.to_uppercase(),
            first.replacen("blobs/", "blobs/../blobs/", 1),
            format!("blobs/{digest}"),
            format!("blobs/zz/{digest}"),
        ] {
            assert_eq!(BlobName::parse(&wrong), None, "{wrong}");
        }
    }
}
