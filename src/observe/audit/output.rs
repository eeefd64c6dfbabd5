//! The file of the audit log: opened, appended to, rotated by size.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::AuditConfig;

/// Mode of the file: it says who fetched what.
const AUDIT_FILE_MODE: u32 = 0o600;
/// The name of the file that stands for standard error.
const STANDARD_ERROR: &str = "-";

/// Where the lines go.
pub(super) struct AuditOutput {
    /// `None`: standard error.
    path: Option<PathBuf>,
    max_size: u64,
    files: u32,
    file: Option<File>,
    size: u64,
    /// True when the file ends within a line: a write that failed, or a kill, left a part of it.
    is_cut: bool,
}

impl AuditOutput {
    pub(super) fn new(path: &Path, config: &AuditConfig) -> Self {
        let path = (path != Path::new(STANDARD_ERROR)).then(|| path.to_owned());
        Self { path, max_size: config.max_size.0, files: config.files, file: None, size: 0, is_cut: false }
    }

    /// Opens the file.
    ///
    /// # Errors
    /// The file system's error.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = OpenOptions::new().create(true).append(true).mode(AUDIT_FILE_MODE).open(path)?;
        self.size = file.metadata()?.len();
        self.is_cut = ends_within_line(path, self.size);
        self.file = Some(file);
        Ok(())
    }

    /// Closes the file; the next line opens it again.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Writes one line, which ends with a line feed, on a line of its own.
    ///
    /// # Errors
    /// The file system's error; a part of the line may be written then.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.path.is_none() {
            return io::stderr().write_all(line);
        }
        if self.file.is_some() && self.size.saturating_add(line.len() as u64) > self.max_size && self.size > 0 {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.open()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.is_cut {
            file.write_all(b"\n")?;
            self.size += 1;
            self.is_cut = false;
        }
        if let Err(error) = file.write_all(line) {
            // A part of the line may be there: the next `open` looks at how the file ends.
            self.file = None;
            return Err(error);
        }
        self.size += line.len() as u64;
        Ok(())
    }

    /// Waits until everything written is on disk. Devices and pipes have nothing to wait for.
    ///
    /// # Errors
    /// The file system's error.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.file.as_ref().map_or(Ok(()), File::sync_data) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    /// Renames the file to `.1`, that to `.2`, and so on; removes the one beyond `files`.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let numbered = |number: u32| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        self.file = None;
        if self.files == 0 {
            ignore_missing(fs::remove_file(path))?;
        } else {
            ignore_missing(fs::remove_file(numbered(self.files)))?;
            for number in (1..self.files).rev() {
                ignore_missing(fs::rename(numbered(number), numbered(number + 1)))?;
            }
            ignore_missing(fs::rename(path, numbered(1)))?;
        }
        self.open()
    }
}

/// True when the last byte of a file of this size is not a line feed. A file that may be written and not read counts as
/// such: readers of JSON lines skip an empty one.
fn ends_within_line(path: &Path, size: u64) -> bool {
    let Some(last) = size.checked_sub(1) else { return false };
    let mut byte = [0];
    File::open(path).and_then(|file| file.read_exact_at(&mut byte, last)).is_err() || byte != *b"\n"
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
