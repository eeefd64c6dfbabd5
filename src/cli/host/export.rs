//! `srm-mirror host export`.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::json;

use crate::{
    admin_api::{EXPORT_BYTES_FIELD, ExportHosted},
    app::{BackupFile, BackupFileError, BackupProblem, BackupSummary},
    atomic_file::AtomicFile,
    cli::{
        FAILED, UsageError,
        admin_args::AdminArgs,
        admin_client::{self, IDLE_TIMEOUT, bounded},
        byte_bar::ByteBar,
        escape_terminal, print,
    },
    entry::Digest,
    value::text::size,
};

/// Mode of the file: only some callers may read what is published.
const EXPORT_FILE_MODE: u32 = 0o600;

/// Writes everything that is published into `file`, which appears only when it is complete; the zips of `since` are left
/// out. Exit code 1 when something published is damaged.
pub(super) fn run(mirror: &AdminArgs, file: &Path, since: &[PathBuf], json: bool) -> anyhow::Result<u8> {
    check_target(file, since)?;
    let mut known: Vec<Digest> = Vec::new();
    for earlier in since {
        known.extend(BackupFile::open(earlier)?.summary.zips);
    }
    let unwritten = || format!("cannot write {}", file.display());
    let archive = AtomicFile::create(file, EXPORT_FILE_MODE).with_context(unwritten)?;
    admin_client::run_at(mirror, async |client| {
        let mut answer = client.export_hosted(&ExportHosted { known }).await?;
        let bar = ByteBar::new("export");
        let bytes = answer.headers().get(EXPORT_BYTES_FIELD).and_then(|value| value.to_str().ok()?.parse().ok());
        bar.set_length(bytes.unwrap_or_default());
        let mut out = archive.file();
        while let Some(chunk) = bounded::read_chunk(&mut answer, IDLE_TIMEOUT).await? {
            out.write_all(&chunk).with_context(unwritten)?;
            bar.advance(chunk.len() as u64);
        }
        Ok(())
    })?;
    // The end of the archive says whether the mirror could read everything.
    let written = match BackupFile::open(archive.path()) {
        Ok(written) => written,
        Err(BackupFileError { problem: BackupProblem::Failed(why), .. }) => {
            return Ok(report_failure(&why, json));
        }
        Err(BackupFileError { problem, .. }) => {
            return Err(io::Error::other(problem)).context("the export cannot be used");
        }
    };
    archive.publish().with_context(unwritten)?;
    let BackupSummary { versions, zips, bytes } = written.summary;
    let zips = zips.len();
    print(&if json {
        format!("{}\n", json!({"versions": versions, "zips": zips, "bytes": bytes, "file": file}))
    } else {
        format!("{versions} versions, {zips} zips ({}) in {}\n", size(bytes), file.display())
    });
    Ok(0)
}

/// Refuses a target that is an earlier export: the new file would replace the only copy of the zips that it leaves out.
fn check_target(file: &Path, since: &[PathBuf]) -> Result<(), UsageError> {
    let identity = |path: &Path| fs::metadata(path).map(|stat| (stat.dev(), stat.ino())).ok();
    let Some(target) = identity(file) else { return Ok(()) };
    match since.iter().find(|earlier| identity(earlier) == Some(target)) {
        Some(earlier) => Err(UsageError(format!(
            "{} is the same file as --since {}, and would be replaced by an export without its zips; write to another file",
            file.display(),
            earlier.display()
        ))),
        None => Ok(()),
    }
}

/// Prints why nothing was written, and returns the exit code.
fn report_failure(why: &str, json: bool) -> u8 {
    print(&if json {
        format!("{}\n", json!({"versions": 0, "failed": true, "message": why}))
    } else {
        format!("nothing was written: {}\n", escape_terminal(why))
    });
    FAILED
}
