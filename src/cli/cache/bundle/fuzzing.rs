//! Fuzz target: bundles.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
};

use super::{Bundle, BundleParts, Checker, MANIFEST_NAME};
use crate::{
    archive::ZipVerifier, cli::byte_bar::ByteBar, entry::Digest, tar_file, value::memory_budget::MemoryBudget,
};

/// What separates the files of a bundle in the target's input.
const SEPARATOR: &[u8] = b"\n--\n";

/// A tar archive; or, after a byte that is odd, the files of one: the manifest, then documents (`d`) and zips (`b`).
///
/// # Panics
/// When an accepted bundle has a part that is not what its manifest says.
pub fn bundle(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let written = if kind % 2 == 0 { write(rest) } else { pack(rest).and_then(|archive| write(&archive)) };
    let Ok(file) = written else { return };
    let verifier = ZipVerifier { max_entries: 100, max_inflated: 1 << 20, memory: MemoryBudget::unlimited() };
    let bar = ByteBar::hidden();
    let checker = Checker { file: &file, verifier: &verifier, keys: HashSet::new(), bar: &bar };
    let Ok(parts) = checker.check() else { return };
    let BundleParts { documents, zips, sources } = parts;
    let bundle = Bundle { file, documents, zips, sources };
    for document in &bundle.documents {
        let read = bundle.document(document).expect("a checked document is read again");
        assert_eq!(read.key, document.key);
    }
    for zip in &bundle.zips {
        let len = usize::try_from(zip.claim.meta.len).expect("shorter than the input");
        let mut bytes = vec![0; len];
        std::os::unix::fs::FileExt::read_exact_at(&bundle.file, &mut bytes, zip.offset).expect("within the bundle");
        assert_eq!(Digest::of(&bytes), zip.claim.meta.digest);
    }
}

/// A tar archive with the right names, lengths and checksums.
fn pack(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    let mut add = |name: &str, content: &[u8]| tar_file::append(&mut archive, name, content);
    let mut rest = data;
    let mut folder = None;
    loop {
        let end = rest.windows(SEPARATOR.len()).position(|bytes| bytes == SEPARATOR);
        let content = &rest[..end.unwrap_or(rest.len())];
        match folder {
            None => add(MANIFEST_NAME, content)?,
            Some(folder) => add(&format!("{folder}/{}", Digest::of(content)), content)?,
        }
        let Some(end) = end else { break };
        rest = &rest[end + SEPARATOR.len()..];
        let Some((kind, after)) = rest.split_first() else { break };
        folder = Some(if *kind == b'd' { "documents" } else { "blobs" });
        rest = after;
    }
    archive.extend_from_slice(&tar_file::TAR_END);
    Ok(archive)
}

fn write(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}
