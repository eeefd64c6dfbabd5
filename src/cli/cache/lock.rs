//! `srm-mirror cache lock`.

use std::{io::Write as _, path::Path};

use anyhow::Context as _;
use serde_json::json;

use super::print;
use crate::{
    admin_api::{ListPins, PinnedArchive, RefKind},
    atomic_file::{AtomicFile, SHARED_FILE_MODE},
    cli::{
        FAILED,
        admin_args::AdminArgs,
        admin_client, escape_terminal,
        lock_file::{self, LockedPackage},
    },
};

/// Writes the selected zips to a lock file. Moving versions are named and left out: their content changes. Exit code 1 when
/// nothing is left to lock: the file stays as it is.
pub(super) fn run(cache: &AdminArgs, pattern: Option<String>, file: &Path, json: bool) -> anyhow::Result<u8> {
    let mut pins = admin_client::run_at(cache, async |client| client.collect(&ListPins { pattern }).await)?;
    let mut left_out = Vec::new();
    pins.retain(|PinnedArchive { archive, .. }| {
        let can_be_locked = archive.kind != RefKind::Moving;
        if !can_be_locked {
            let name = format!("{}:{}@{}", archive.upstream, archive.package, archive.version);
            if !json {
                print(&format!("left out  {}: its content changes\n", escape_terminal(&name)));
            }
            left_out.push(name);
        }
        can_be_locked
    });
    if pins.is_empty() && json {
        print(&format!("{}\n", json!({"packages": 0, "left_out": left_out})));
        return Ok(FAILED);
    }
    if pins.is_empty() {
        print(&format!("no stored zip matches that can be locked; {} is unchanged\n", file.display()));
        return Ok(FAILED);
    }
    let count = pins.len();
    let text = lock_file::render(pins.into_iter().map(LockedPackage::from).collect())?;
    let write = || {
        let lock_file = AtomicFile::create(file, SHARED_FILE_MODE)?;
        lock_file.file().write_all(text.as_bytes())?;
        lock_file.publish()
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    print(&if json {
        format!("{}\n", json!({"packages": count, "left_out": left_out, "file": file}))
    } else {
        format!("{count} packages in {}\n", file.display())
    });
    Ok(0)
}
