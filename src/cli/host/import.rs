//! `srm-mirror host import`.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{
    app::{self, BackupFile, BackupFileError, BackupProblem, OpenHostedError, RestoreError, RestoreProblem},
    cli::{CacheArgs, UsageError, byte_bar::ByteBar, print},
    value::text::size,
};

/// Restores backups into `dir`, else into the directory of the configuration.
pub(super) fn run(config: &CacheArgs, files: &[PathBuf], dir: Option<PathBuf>, json: bool) -> anyhow::Result<u8> {
    let dir = match dir {
        Some(dir) => dir,
        None => config.load()?.config.hosted_dir().ok_or_else(|| {
            UsageError("no section [upstreams.hosted] names a directory; name one with --dir".to_owned())
        })?,
    };
    let backups = files.iter().map(|file| BackupFile::open(file)).collect::<Result<Vec<_>, _>>()?;
    let bar = ByteBar::new("import");
    // An estimate: files may share zips, and have some that are needed no more.
    bar.set_length(backups.iter().map(|backup| backup.summary.bytes).fold(0, u64::saturating_add));
    let restored = app::restore_hosted(&backups, &dir, |bytes| bar.advance(bytes))?;
    drop(bar);
    print_report(&restored, &dir, json);
    Ok(0)
}

fn print_report(report: &app::RestoreReport, dir: &Path, json: bool) {
    let app::RestoreReport { versions, zips, bytes } = *report;
    print(&if json {
        format!("{}\n", json!({"versions": versions, "zips": zips, "bytes": bytes, "dir": dir}))
    } else {
        format!("{versions} versions, {zips} zips ({}) restored in {}\n", size(bytes), dir.display())
    });
}

/// True for a file that is no good backup, and for a directory that is not empty.
pub(in crate::cli) fn is_usage(cause: &(dyn std::error::Error + 'static)) -> bool {
    match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(BackupFileError { problem, .. }), _) => !matches!(problem, BackupProblem::Io(_)),
        (_, Some(RestoreError::Backup { problem, .. })) => {
            !matches!(problem, RestoreProblem::Write { .. } | RestoreProblem::Backup(BackupProblem::Io(_)))
        }
        (_, Some(RestoreError::NotEmpty { .. } | RestoreError::MissingZip { .. })) => true,
        _ => false,
    }
}

/// True where a file cannot be read or written.
pub(in crate::cli) fn is_io(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<BackupFileError>() || cause.is::<RestoreError>() || cause.is::<OpenHostedError>()
}

/// True where another process holds the directory.
pub(in crate::cli) fn is_unavailable(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(RestoreError::Directory(OpenHostedError::Busy { .. })))
        || matches!(cause.downcast_ref(), Some(OpenHostedError::Busy { .. }))
}
