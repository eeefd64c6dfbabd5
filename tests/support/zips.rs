//! Helpers for tests of zips: a forge with one package, incremental reads of bodies, and the content of a cache directory.

#![allow(dead_code, unreachable_pub)]

use std::{fs, path::Path};

use sha2::{Digest as _, Sha256};

use crate::forge::{Forge, Host, Lengths, Match, Spec, hex};
pub use crate::process::spooled;

/// The package of these tests.
pub const PACKAGE: &str = "devsapp/fc3";
/// Its only version.
pub const TAG: &str = "v1.0.0";
/// The path of its zip.
pub const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";

/// A forge with the package, whose zip `make` describes.
pub async fn forge(lengths: Lengths, make: impl FnOnce(Spec) -> Spec) -> Forge {
    let forge = Forge::start().await;
    forge.repo(PACKAGE).release(TAG, make);
    forge.lengths(lengths);
    forge
}

/// Requests to the archive host.
pub fn zips() -> Match {
    Match::on(Host::Archive)
}

/// Number of requests for zips that the forge received.
pub fn zip_requests(forge: &Forge) -> usize {
    forge.count(|seen| seen.host == Host::Archive)
}

/// The length of the package's zip.
pub fn len(forge: &Forge) -> u64 {
    forge.repo(PACKAGE).archive(TAG).len()
}

/// The digest of the package's zip.
pub fn sha256(forge: &Forge) -> String {
    forge.sha256(PACKAGE, TAG)
}

/// A response body that is hashed and counted while it is read.
pub struct Drink {
    response: reqwest::Response,
    hash: Sha256,
    pub read: u64,
}

impl Drink {
    pub fn of(response: reqwest::Response) -> Self {
        Self { response, hash: Sha256::new(), read: 0 }
    }

    /// Reads until at least `bytes` bytes were received.
    pub async fn until(&mut self, bytes: u64) {
        while self.read < bytes {
            let chunk = self.response.chunk().await.expect("not broken").expect("not at its end");
            self.take(&chunk);
        }
    }

    /// Reads to the end and returns the digest; an error if the connection broke or the status is an error.
    pub async fn end(&mut self) -> Result<String, reqwest::Error> {
        self.response.error_for_status_ref()?;
        while let Some(chunk) = self.response.chunk().await? {
            self.take(&chunk);
        }
        Ok(hex(&self.hash.clone().finalize()))
    }

    fn take(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.read += chunk.len() as u64;
    }
}

/// [`crate::eventually::eventually`] for a synchronous condition.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    crate::eventually::eventually(what, async || is_so()).await;
}

/// Number of stored zips.
pub fn blobs(dir: &Path) -> usize {
    let folders = fs::read_dir(dir.join("blobs")).expect("blobs").flatten();
    let files = folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flat_map(|files| files.flatten());
    files.filter(|file| !file.file_name().to_string_lossy().ends_with(".json")).count()
}

/// The lines of `pins.jsonl`.
pub fn pins(dir: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir.join("pins.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Removes every stored zip, as eviction does; pins are kept. Must not run while a mirror holds the directory.
pub fn evict(dir: &Path) {
    fs::remove_dir_all(dir.join("blobs")).expect("blobs");
    fs::remove_file(dir.join("index.redb")).expect("the index");
}
