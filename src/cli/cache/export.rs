//! `srm-mirror cache export`: writes a bundle for a network without internet.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Seek as _, Write as _},
    path::Path,
};

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::bundle::{BUNDLE_FORMAT, BundleManifest, DocumentEntry, MANIFEST_NAME};
use crate::{
    admin_api::{CountHosted, ExportArchives, ExportedItem, ReadArchive},
    atomic_file::{AtomicFile, SHARED_FILE_MODE},
    cli::{
        FAILED,
        admin_args::AdminArgs,
        admin_client::{self, AdminClient, IDLE_TIMEOUT, bounded},
        byte_bar::ByteBar,
        print,
    },
    entry::{Digest, ExportedArchive},
    tar_file::{self, TAR_END, append},
    value::text::size,
};

/// Writes the selected zips and their documents to `file`, which appears only when it is complete. Exit code 1 when the
/// pattern selects nothing.
pub(super) fn run(cache: &AdminArgs, file: &Path, pattern: Option<String>, json: bool) -> anyhow::Result<u8> {
    let archive = AtomicFile::create(file, SHARED_FILE_MODE).map_err(unwritten(file))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let documents = tempfile::tempfile_in(folder).map_err(unwritten(file))?;
    let mut published = 0;
    let written = admin_client::run_at(cache, async |client| {
        published = published_count(client, pattern.clone()).await;
        let mut bundle = BundleWriter { out: archive.file(), documents, file, bar: ByteBar::new("export") };
        bundle.write(client, &ExportArchives { pattern }).await
    });
    let BundleSize { zips, bytes } = written?;
    if zips == 0 {
        print(&if json {
            format!("{}\n", json!({"zips": 0, "published_left_out": published}))
        } else {
            format!("no stored zip matches\n{}", left_out(published))
        });
        return Ok(FAILED);
    }
    archive.publish().map_err(unwritten(file))?;
    print(&if json {
        format!("{}\n", json!({"zips": zips, "bytes": bytes, "file": file, "published_left_out": published}))
    } else {
        format!("{zips} zips, {} in {}\n{}", size(bytes), file.display(), left_out(published))
    });
    Ok(0)
}

/// The number of published versions that a pattern selects; 0 where the mirror cannot say it.
async fn published_count(client: &AdminClient, pattern: Option<String>) -> usize {
    client.call(&CountHosted { pattern }).await.map(|count| count.versions).unwrap_or_default()
}

/// The line about published versions that are selected, and that no bundle has.
fn left_out(published: usize) -> String {
    if published == 0 {
        return String::new();
    }
    format!("{published} published versions match and are in no bundle; srm-mirror host export backs them up\n")
}

struct BundleWriter<'b> {
    out: &'b File,
    /// Holds the documents until the manifest, which precedes them, is written.
    documents: File,
    /// The name of the bundle, for errors.
    file: &'b Path,
    bar: ByteBar,
}

struct BundleSize {
    zips: usize,
    /// Of the whole file.
    bytes: u64,
}

impl BundleWriter<'_> {
    async fn write(&mut self, client: &AdminClient, request: &ExportArchives) -> anyhow::Result<BundleSize> {
        let mut manifest =
            BundleManifest { format: BUNDLE_FORMAT, documents: Vec::new(), zips: Vec::new(), sources: Vec::new() };
        let each = |item| {
            let document = match item {
                ExportedItem::Zip(archive) => {
                    manifest.zips.push(archive);
                    return Ok(());
                }
                ExportedItem::Source(source) => {
                    manifest.sources.push(source);
                    return Ok(());
                }
                ExportedItem::Document(document) => document,
            };
            let text = serde_json::to_vec(&document)?;
            let sha256 = Digest::of(&text);
            let len = text.len() as u64;
            append(&mut self.documents, &format!("documents/{sha256}"), &text).map_err(unwritten(self.file))?;
            manifest.documents.push(DocumentEntry { key: document.key, sha256, len });
            Ok(())
        };
        client.subscribe(request, each).await?;
        append(&mut self.out, MANIFEST_NAME, &serde_json::to_vec(&manifest)?).map_err(unwritten(self.file))?;
        let copied = self.documents.rewind().and_then(|()| io::copy(&mut self.documents, &mut self.out));
        copied.map_err(unwritten(self.file))?;
        let mut written = BTreeSet::new();
        let zips: Vec<_> = manifest.zips.iter().filter(|archive| written.insert(archive.meta.digest)).collect();
        self.bar.set_length(zips.iter().map(|archive| archive.meta.len).sum());
        for archive in zips {
            self.write_zip(client, archive).await?;
        }
        self.out.write_all(&TAR_END).map_err(unwritten(self.file))?;
        let bytes = self.out.metadata().map_err(unwritten(self.file))?.len();
        Ok(BundleSize { zips: manifest.zips.len(), bytes })
    }

    async fn write_zip(&mut self, client: &AdminClient, archive: &ExportedArchive) -> anyhow::Result<()> {
        let ExportedArchive { key, meta, .. } = archive;
        let answer = client.read_archive(&ReadArchive { key: key.clone() }).await;
        let mut answer = answer.with_context(|| format!("export {key}"))?;
        let header = tar_file::header(&format!("blobs/{}", meta.digest), meta.len)?;
        self.out.write_all(header.as_bytes()).map_err(unwritten(self.file))?;
        let mut sha = Sha256::new();
        let mut len = 0;
        while let Some(chunk) = bounded::chunk(&mut answer, IDLE_TIMEOUT).await? {
            len += chunk.len() as u64;
            sha.update(&chunk);
            anyhow::ensure!(len <= meta.len, "{key} is longer than its record says");
            self.out.write_all(&chunk).map_err(unwritten(self.file))?;
            self.bar.advance(chunk.len() as u64);
        }
        anyhow::ensure!(
            len == meta.len && Digest(sha.finalize().into()) == meta.digest,
            "{key} is damaged; srm-mirror cache verify mends it"
        );
        tar_file::pad(&mut self.out, len).map_err(unwritten(self.file))
    }
}

/// Adds the name of the file to an error of the file system.
fn unwritten(file: &Path) -> impl FnOnce(io::Error) -> anyhow::Error {
    move |error| anyhow::Error::from(error).context(format!("cannot write {}", file.display()))
}
