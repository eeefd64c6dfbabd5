//! Packs a folder: a flat zip, deflated at level 9, in the order of the names, with fixed times, so that the same files
//! make the same zip.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Seek as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use ignore::WalkBuilder;
use zip::{CompressionMethod, DateTime, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{limits::PackageLimits, package_zip_error::PackageZipError};
use crate::value::ByteSize;

/// The ignore file of the command line client. Its patterns precede those of the `.gitignore` beside it.
const SIGNORE: &str = ".signore";
/// From this length on, an entry has 64-bit sizes: deflated data may be a little larger than its content.
const LARGE_FILE_BYTES: u64 = 4_000_000_000;

/// Packs the files of `dir` into a temporary file, and returns it at its beginning. Folders have no entries of their own;
/// links are packed as links.
///
/// # Errors
/// If something cannot be read or packed, or the folder has more entries or bytes than a mirror allows.
pub(super) fn pack(dir: &Path, limits: &PackageLimits) -> Result<File, PackageZipError> {
    let entries = list(dir, limits)?;
    let zip = tempfile::tempfile().map_err(PackageZipError::Unwritable)?;
    let mut writer = ZipWriter::new(BufWriter::new(zip));
    let mut bytes = 0_u64;
    for (name, path) in &entries {
        add(&mut writer, name, path, &mut bytes)?;
        if bytes > limits.max_inflated {
            let reason = format!("it has more than the {} that a mirror allows", ByteSize(limits.max_inflated));
            return Err(PackageZipError::Unpackable { path: dir.to_owned(), reason });
        }
    }
    let writer = writer.finish().map_err(unwritable)?;
    let mut zip = writer.into_inner().map_err(|error| PackageZipError::Unwritable(error.into_error()))?;
    zip.rewind().map_err(PackageZipError::Unwritable)?;
    Ok(zip)
}

/// The files and links to pack, by their names in the zip.
fn list(dir: &Path, limits: &PackageLimits) -> Result<BTreeMap<String, PathBuf>, PackageZipError> {
    let unpackable = |path: &Path, reason: String| PackageZipError::Unpackable { path: path.to_owned(), reason };
    let walk = WalkBuilder::new(dir)
        .standard_filters(false)
        .git_ignore(true)
        .require_git(false)
        .add_custom_ignore_filename(SIGNORE)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut entries = BTreeMap::new();
    for entry in walk {
        let entry = entry.map_err(|error| match error.into_io_error() {
            Some(source) => PackageZipError::Unreadable { path: dir.to_owned(), source },
            None => unpackable(dir, "it has a loop of folders".into()),
        })?;
        if let Some(error) = entry.error() {
            return Err(unpackable(entry.path(), format!("its .signore or .gitignore is malformed: {error}")));
        }
        let kind = entry.file_type();
        if kind.is_some_and(|kind| kind.is_dir()) {
            continue;
        }
        if !kind.is_some_and(|kind| kind.is_file() || kind.is_symlink()) {
            return Err(unpackable(entry.path(), "it is neither a file, a folder nor a link".into()));
        }
        let relative = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        let Some(name) = relative.to_str() else {
            return Err(unpackable(entry.path(), "its name is not UTF-8".into()));
        };
        entries.insert(name.to_owned(), entry.path().to_owned());
        if entries.len() > limits.max_entries {
            let reason = format!("it has more than the {} files that a mirror allows", limits.max_entries);
            return Err(unpackable(dir, reason));
        }
    }
    Ok(entries)
}

/// Adds one file or link, and counts its bytes.
fn add(
    writer: &mut ZipWriter<BufWriter<File>>,
    name: &str,
    path: &Path,
    bytes: &mut u64,
) -> Result<(), PackageZipError> {
    let unreadable = |source| PackageZipError::Unreadable { path: path.to_owned(), source };
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(published_time());
    let metadata = path.symlink_metadata().map_err(unreadable)?;
    if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(unreadable)?;
        let Some(target) = target.to_str() else {
            let reason = "its target is not UTF-8".to_owned();
            return Err(PackageZipError::Unpackable { path: path.to_owned(), reason });
        };
        return writer.add_symlink(name, target, options).map_err(unwritable);
    }
    let mode = if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
    let options = options.unix_permissions(mode).large_file(metadata.len() >= LARGE_FILE_BYTES);
    writer.start_file(name, options).map_err(unwritable)?;
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    *bytes += io::copy(&mut file, writer).map_err(unreadable)?;
    Ok(())
}

/// The time of every entry, as the command line client sets it: 2023-11-01.
fn published_time() -> DateTime {
    DateTime::from_date_and_time(2023, 11, 1, 0, 0, 0).unwrap_or_default()
}

fn unwritable(error: ZipError) -> PackageZipError {
    PackageZipError::Unwritable(match error {
        ZipError::Io(error) => error,
        other => io::Error::other(other),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn limits() -> PackageLimits {
        PackageLimits::default()
    }

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, text).expect("written");
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let zip = zip::ZipArchive::new(pack(dir, &limits()).expect("packed")).expect("a zip");
        zip.file_names().map(|name| name.expect("text").into_owned()).collect()
    }

    #[test]
    fn ignore_files_leave_files_out_and_git_is_never_packed() {
        let dir = tempfile::tempdir().expect("a directory");
        write(
            dir.path(),
            &[
                (".git/config", "secret"),
                ("sub/.git/config", "secret"),
                (".gitignore", "dist/\nnode_modules/\n*.log\n"),
                (".signore", "!dist/\ntests/\n"),
                ("dist/index.js", "built"),
                ("node_modules/a/index.js", ""),
                ("debug.log", ""),
                ("tests/x.js", ""),
                (".env.example", ""),
                ("b", ""),
                ("a", ""),
            ],
        );
        assert_eq!(names(dir.path()), [".env.example", ".gitignore", ".signore", "a", "b", "dist/index.js"]);
    }

    #[test]
    fn ignore_files_above_the_folder_do_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), &[(".gitignore", "*\n"), ("app/publish.yaml", "Type: Component\n")]);
        assert_eq!(names(&dir.path().join("app")), ["publish.yaml"]);
    }

    #[test]
    fn the_same_files_make_the_same_zip_whenever_they_were_written() {
        let zips = [0_u32, 1].map(|turn| {
            let dir = tempfile::tempdir().expect("a directory");
            let files = [("b", "text"), ("a/c", "more text"), ("a.x", "")];
            let order: Vec<_> = if turn == 0 { files.to_vec() } else { files.into_iter().rev().collect() };
            write(dir.path(), &order);
            fs::set_permissions(dir.path().join("b"), fs::Permissions::from_mode(0o755 - turn)).expect("set");
            symlink("b", dir.path().join("link")).expect("linked");
            let mut bytes = Vec::new();
            let mut zip = pack(dir.path(), &limits()).expect("packed");
            io::copy(&mut zip, &mut bytes).expect("read");
            bytes
        });
        assert!(zips[0] == zips[1], "they differ");
        let mut zip = zip::ZipArchive::new(io::Cursor::new(&zips[0])).expect("a zip");
        let entry = zip.by_name("b").expect("an entry");
        let time = entry.last_modified().expect("a time");
        assert_eq!((time.year(), time.month(), time.day()), (2023, 11, 1));
        assert_eq!(entry.unix_mode(), Some(0o100_755));
        drop(entry);
        assert!(zip.by_name("link").expect("an entry").is_symlink());
    }

    #[test]
    fn more_than_a_mirror_allows_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), &[("a", "12345"), ("b", "67890")]);
        let of = |limits: PackageLimits| pack(dir.path(), &limits).expect_err("too much").to_string();
        let few = of(PackageLimits { max_entries: 1, ..limits() });
        assert!(few.ends_with("more than the 1 files that a mirror allows"), "{few}");
        let small = of(PackageLimits { max_inflated: 9, ..limits() });
        assert!(small.contains("that a mirror allows"), "{small}");
    }
}
