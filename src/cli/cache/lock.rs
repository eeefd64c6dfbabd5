//! `srm-mirror cache lock`.

use std::{io::Write as _, path::Path};

use anyhow::Context as _;

use super::print;
use crate::{
    admin_api::ListPins,
    cli::{
        CacheArgs, FAILED, admin_client,
        atomic_file::{AtomicFile, SHARED_FILE_MODE},
        lock_file::{self, LockedPackage},
    },
};

/// Writes the selected zips to a lock file. Exit code 1 when the pattern selects nothing: the file is left as it is.
pub(super) fn run(cache: &CacheArgs, pattern: Option<String>, file: &Path) -> anyhow::Result<u8> {
    let pins = admin_client::run(cache.load()?, async |client| client.collect(&ListPins { pattern }).await)?;
    if pins.is_empty() {
        print(&format!("no stored zip matches; {} is unchanged\n", file.display()));
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
    print(&format!("{count} packages in {}\n", file.display()));
    Ok(0)
}
