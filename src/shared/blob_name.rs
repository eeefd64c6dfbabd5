//! The names of the objects that hold zips.

use std::fmt;

use super::object_name::ObjectName;
use crate::entry::Digest;

/// The folder of a zip. The same bytes may be in both folders, with independent names and marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum BlobFolder {
    /// Zips that were fetched: claims name them.
    Fetched,
    /// Published zips: records name them.
    Published,
}

/// The name of an object with the bytes of a digest: `blobs/ab/{digest}`, and `blobs/ab/{digest}.{n}` once earlier
/// names are never claimed again ([`super::marks`]); for published zips below `hosted/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlobName {
    pub(super) folder: BlobFolder,
    pub(super) digest: Digest,
    /// The number at the end; zero without one.
    pub(super) generation: u32,
}

impl BlobFolder {
    /// What the names of its zips begin with.
    pub(super) fn beginning(self) -> &'static str {
        match self {
            Self::Fetched => "blobs/",
            Self::Published => "hosted/blobs/",
        }
    }

    /// The mark of its zips with a digest.
    pub(super) fn mark(self, digest: &Digest) -> ObjectName {
        ObjectName::listed(match self {
            Self::Fetched => format!("gc/{digest}"),
            Self::Published => format!("gc/hosted/{digest}"),
        })
    }
}

impl BlobName {
    /// The name as a claim, a record or a list has it; `None` where it is none in this folder.
    pub(super) fn parse(folder: BlobFolder, text: &str) -> Option<Self> {
        let (first_byte, rest) = text.strip_prefix(folder.beginning())?.split_once('/')?;
        let (digest, generation) = match rest.split_once('.') {
            Some((digest, generation)) => (digest, generation.parse().ok().filter(|generation| *generation > 0)?),
            None => (rest, 0),
        };
        let parsed = Self { folder, digest: digest.parse().ok()?, generation };
        // One object has one name: no upper case, no zeros in front.
        (first_byte.len() == 2 && parsed.to_string() == text).then_some(parsed)
    }

    pub(super) fn object(&self) -> ObjectName {
        ObjectName::listed(self.to_string())
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, digest, generation } = self;
        write!(f, "{}{:02x}/{digest}", folder.beginning(), digest.0[0])?;
        if *generation > 0 { write!(f, ".{generation}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_parsed_as_it_is_written_and_no_other_text_is_one() {
        let digest = Digest::of(b"zip");
        for (folder, other) in
            [(BlobFolder::Fetched, BlobFolder::Published), (BlobFolder::Published, BlobFolder::Fetched)]
        {
            for generation in [0, 1, 12, u32::MAX] {
                let name = BlobName { folder, digest, generation };
                assert_eq!(BlobName::parse(folder, &name.to_string()), Some(name));
                assert_eq!(BlobName::parse(other, &name.to_string()), None);
                assert_eq!(name.object().as_str(), name.to_string());
            }
            let first = BlobName { folder, digest, generation: 0 }.to_string();
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
                format!("{}{digest}", folder.beginning()),
                format!("{}zz/{digest}", folder.beginning()),
            ] {
                assert_eq!(BlobName::parse(folder, &wrong), None, "{wrong}");
            }
        }
        assert_ne!(BlobFolder::Fetched.mark(&digest), BlobFolder::Published.mark(&digest));
    }
}
