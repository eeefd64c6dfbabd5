//! JSON files of mode 0600 in `access/`: tokens and keys. Each is replaced as a whole, and synced.

use std::{fs, io, os::unix::fs::DirBuilderExt as _, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use super::OpenAccessError;
use crate::atomic_file::{JsonFileError, read_json, write_json};

/// Mode of a file with secrets.
const PRIVATE_FILE_MODE: u32 = 0o600;
/// Mode of the folder.
const PRIVATE_DIR_MODE: u32 = 0o700;
/// Largest file that is read, bytes: more than 100,000 tokens.
const MAX_ACCESS_FILE_BYTES: u64 = 64 << 20;

/// Reads a file; the default value when there is none.
///
/// # Errors
/// The file system's error, or content of another form. The content is not repeated: it may be a secret.
pub(super) fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, OpenAccessError> {
    let invalid = |reason| OpenAccessError::Invalid { path: path.to_owned(), reason };
    read_json(path, MAX_ACCESS_FILE_BYTES).map_err(|error| match error {
        JsonFileError::Io(source) => OpenAccessError::Io { path: path.to_owned(), source },
        JsonFileError::TooLarge(_) => invalid("it is larger than 64 MiB"),
        JsonFileError::Invalid => invalid("it is not the JSON that this program writes"),
    })
}

/// Replaces a file, and makes its folder. It is durable when this returns.
///
/// # Errors
/// The file system's error; the old file stays then.
pub(super) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIR_MODE).create(dir)?;
    }
    write_json(path, PRIVATE_FILE_MODE, value)
}
