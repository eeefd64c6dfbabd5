//! Small JSON files that are read and replaced as a whole.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{AtomicFile, folder_of};

/// Why a JSON file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonFileError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is longer than the limit.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// It is not JSON of the expected form. The content is not repeated: it may be a secret.
    #[error("it is not the JSON that this program writes")]
    Invalid,
}

/// Reads a file of at most `max_bytes`; the default value when there is none. Blocks.
///
/// # Errors
/// When it cannot be read, is longer, or has other content.
pub(crate) fn read_json<T: DeserializeOwned + Default>(path: &Path, max_bytes: u64) -> Result<T, JsonFileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut text)?;
    if text.len() as u64 > max_bytes {
        return Err(JsonFileError::TooLarge(max_bytes));
    }
    serde_json::from_slice(&text).map_err(|_| JsonFileError::Invalid)
}

/// Replaces a file, which then has this mode less the umask. It is durable, with its name, when this returns. Blocks.
///
/// # Errors
/// The file system's error; the old file stays then.
pub(crate) fn write_json(path: &Path, mode: u32, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    let file = AtomicFile::create(path, mode)?;
    file.file().write_all(&text)?;
    file.publish()?;
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_it_was_written_and_other_content_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list.json");
        assert_eq!(read_json::<Vec<u32>>(&path, 100).expect("none"), [] as [u32; 0]);
        write_json(&path, 0o600, &[1, 2]).expect("written");
        assert_eq!(read_json::<Vec<u32>>(&path, 100).expect("read"), [1, 2]);
        let len = std::fs::metadata(&path).expect("there").len();
        assert!(read_json::<Vec<u32>>(&path, len).is_ok());
        assert!(matches!(read_json::<Vec<u32>>(&path, len - 1), Err(JsonFileError::TooLarge(_))));
        assert!(matches!(read_json::<Vec<bool>>(&path, 100), Err(JsonFileError::Invalid)));
        assert!(matches!(read_json::<Vec<u32>>(dir.path(), 100), Err(JsonFileError::Io(_))));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "nothing else is left");
    }
}
