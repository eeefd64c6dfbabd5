//! JSON files of mode 0600 in `access/`: tokens and keys. Each is replaced as a whole, and synced.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::OpenAccessError;
use crate::atomic_file::AtomicFile;

/// Mode of a file with secrets.
const PRIVATE_FILE_MODE: u32 = 0o600;
/// Mode of the folder.
const PRIVATE_DIR_MODE: u32 = 0o700;
/// Largest file that is read, bytes: more than 100,000 tokens.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Reads a file; the default value when there is none.
///
/// # Errors
/// The file system's error, or content of another form. The content is not repeated: it may be a secret.
pub(super) fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, OpenAccessError> {
    let invalid = |reason| OpenAccessError::Invalid { path: path.to_owned(), reason };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => return Err(invalid("it is larger than 64 MiB")),
        _ => {}
    }
    let text = fs::read(path).map_err(|source| OpenAccessError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|_| invalid("it is not the JSON that this program writes"))
}

/// Replaces a file. It is durable when this returns.
///
/// # Errors
/// The file system's error; the old file stays then.
pub(super) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIR_MODE).create(dir)?;
    }
    let file = AtomicFile::create(path, PRIVATE_FILE_MODE)?;
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    file.file().write_all(&text)?;
    file.publish()?;
    // The new name, too.
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
