//! Tar archives of plain files, as the mirror writes and reads them: no folders, no links, no long names.

use std::{
    fs::File,
    io::{self, Seek, Write},
};

/// The header of a plain file.
///
/// # Errors
/// For a name that has no place in a header.
pub(crate) fn header(name: &str, len: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(len);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// Writes the zero bytes after a file of `len` bytes.
///
/// # Errors
/// Those of `out`.
pub(crate) fn pad(mut out: impl Write, len: u64) -> io::Result<()> {
    let zeroes = usize::try_from(len.next_multiple_of(TAR_BLOCK_BYTES as u64) - len).unwrap_or(0);
    out.write_all(&[0; TAR_BLOCK_BYTES][..zeroes])
}

/// Appends a whole file.
///
/// # Errors
/// For a name that has no place in a header; those of `out`.
pub(crate) fn append(mut out: impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let len = bytes.len() as u64;
    out.write_all(header(name, len)?.as_bytes())?;
    out.write_all(bytes)?;
    pad(out, len)
}

/// Headers and contents begin at multiples of this many bytes.
pub(crate) const TAR_BLOCK_BYTES: usize = 512;

/// The two empty blocks at the end of an archive.
pub(crate) const TAR_END: [u8; 1024] = [0; 1024];

/// The name of an entry that is a plain file; `None` for any other: a link, a folder, a long name, a name that is no text.
pub(crate) fn plain_name<R: io::Read>(entry: &tar::Entry<'_, R>) -> Option<String> {
    if entry.header().entry_type() != tar::EntryType::Regular {
        return None;
    }
    String::from_utf8(entry.path_bytes().into_owned()).ok()
}

/// Calls `each` for every entry of an archive, from its beginning, and skips what it does not read. Long names and links
/// are entries of their own.
///
/// # Errors
/// The first error of `each`; `malformed` for an archive that cannot be read.
pub(crate) fn each_entry<E>(
    mut file: &File,
    malformed: impl Fn(io::Error) -> E,
    mut each: impl FnMut(tar::Entry<'_, &File>) -> Result<(), E>,
) -> Result<(), E> {
    file.rewind().map_err(&malformed)?;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(&malformed)?.raw(true) {
        each(entry.map_err(&malformed)?)?;
    }
    Ok(())
}
