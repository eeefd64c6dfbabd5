//! Writes a bundle while its parts arrive.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::cannot_write;
use crate::{
    admin_api::{ErrorCode, ExportArchives, ExportedItem, LeftOut, ReadArchive},
    cli::{
        admin_client::{AdminClient, AdminRefusal, IDLE_TIMEOUT, Unavailable, bounded, classify_bucket_error},
        byte_bar::ByteBar,
        cache::bundle::{BUNDLE_FORMAT, BundleManifest, DocumentEntry, MANIFEST_NAME},
    },
    entry::{Digest, ExportedArchive, Key},
    tar_file::{self, TAR_END, append},
};

/// Most attempts to read a zip of the bucket whose bytes break off.
const ZIP_ATTEMPTS: usize = 3;

pub(super) struct BundleWriter<'b> {
    client: &'b AdminClient,
    out: &'b File,
    /// Holds the documents until the manifest, which precedes them, is written.
    documents: File,
    /// The name of the bundle, for errors.
    file: &'b Path,
    bar: ByteBar,
}

pub(super) struct BundleSize {
    pub(super) zips: usize,
    /// Those of the zips that this mirror has not stored.
    pub(super) from_bucket: usize,
    /// Of the whole file.
    pub(super) bytes: u64,
    /// What should be in it, and is not.
    pub(super) left_out: Vec<LeftOutZip>,
}

/// A version that is in no bundle.
pub(super) struct LeftOutZip {
    pub(super) key: Key,
    pub(super) why: LeftOut,
}

/// The result of writing a zip.
enum WrittenZip {
    Whole,
    /// Nothing of it is in the bundle.
    LeftOut(LeftOut),
    /// The answer has broken off.
    BrokenOff(anyhow::Error),
}

/// What the mirror has of the selection.
struct ExportedItems {
    manifest: BundleManifest,
    /// The keys of the zips that only the bucket has.
    from_bucket: HashSet<Key>,
    left_out: Vec<LeftOutZip>,
}

impl<'b> BundleWriter<'b> {
    pub(super) fn new(client: &'b AdminClient, out: &'b File, documents: File, file: &'b Path, bar: ByteBar) -> Self {
        Self { client, out, documents, file, bar }
    }

    /// Writes all of it. A zip of the bucket that is not what its claim says is left out.
    ///
    /// # Errors
    /// Where the mirror or the bucket cannot be used, or the file cannot be written: there is no bundle then.
    pub(super) async fn write(mut self, request: &ExportArchives) -> anyhow::Result<BundleSize> {
        let ExportedItems { mut manifest, from_bucket, mut left_out } = self.read_items(request).await?;
        let text = serde_json::to_vec(&manifest)?;
        append(self.out, MANIFEST_NAME, &text).map_err(cannot_write(self.file))?;
        let copied = self.documents.rewind().and_then(|()| io::copy(&mut self.documents, &mut self.out));
        copied.map_err(cannot_write(self.file))?;
        let mut counted = HashSet::new();
        let lens = manifest.zips.iter().filter(|archive| counted.insert(archive.meta.digest));
        self.bar.set_length(lens.map(|archive| archive.meta.len).sum());
        let mut written = HashSet::new();
        let mut failed = Vec::new();
        for archive in &manifest.zips {
            if written.contains(&archive.meta.digest) {
                continue;
            }
            match self.write_zip(archive, request.shared).await? {
                WrittenZip::Whole => drop(written.insert(archive.meta.digest)),
                WrittenZip::BrokenOff(error) => return Err(error),
                WrittenZip::LeftOut(why) => {
                    failed.push((archive.meta.digest, LeftOutZip { key: archive.key.clone(), why }))
                }
            }
        }
        // Another key may lead to the same bytes.
        let failed = failed.into_iter().filter(|(digest, _)| !written.contains(digest));
        let failed: Vec<_> = failed.map(|(_, zip)| zip).collect();
        if !failed.is_empty() {
            manifest.zips.retain(|archive| written.contains(&archive.meta.digest));
            self.replace_manifest(&manifest, text.len())?;
        }
        left_out.extend(failed);
        let from_bucket = manifest.zips.iter().filter(|archive| from_bucket.contains(&archive.key)).count();
        self.out.write_all(&TAR_END).map_err(cannot_write(self.file))?;
        let bytes = self.out.metadata().map_err(cannot_write(self.file))?.len();
        Ok(BundleSize { zips: manifest.zips.len(), from_bucket, bytes, left_out })
    }

    /// Reads the list of the selection, and writes its documents to their file.
    async fn read_items(&mut self, request: &ExportArchives) -> anyhow::Result<ExportedItems> {
        let mut manifest =
            BundleManifest { format: BUNDLE_FORMAT, documents: Vec::new(), zips: Vec::new(), sources: Vec::new() };
        let mut keys = HashSet::new();
        let mut from_bucket = HashSet::new();
        let mut left_out = Vec::new();
        let mut stopped = None;
        let each = |item| {
            let document = match item {
                ExportedItem::Zip(archive) => {
                    keys.insert(archive.key.clone());
                    manifest.zips.push(archive);
                    return Ok(());
                }
                ExportedItem::SharedZip(archive) => {
                    // One that was evicted since the list began is among the stored ones.
                    if keys.insert(archive.key.clone()) {
                        from_bucket.insert(archive.key.clone());
                        manifest.zips.push(archive);
                    }
                    return Ok(());
                }
                ExportedItem::Source(source) => {
                    manifest.sources.push(source);
                    return Ok(());
                }
                ExportedItem::LeftOut { key, why } => {
                    left_out.push(LeftOutZip { key, why });
                    return Ok(());
                }
                ExportedItem::Stopped { message } => {
                    stopped = Some(message);
                    return Ok(());
                }
                ExportedItem::Document(document) => document,
            };
            let text = serde_json::to_vec(&document)?;
            let sha256 = Digest::of(&text);
            let len = text.len() as u64;
            append(&mut self.documents, &format!("documents/{sha256}"), &text).map_err(cannot_write(self.file))?;
            manifest.documents.push(DocumentEntry { key: document.key, sha256, len });
            Ok(())
        };
        self.client.subscribe(request, each).await?;
        match stopped {
            Some(message) => Err(Unavailable(format!("there is no bundle: {message}")).into()),
            None => Ok(ExportedItems { manifest, from_bucket, left_out }),
        }
    }

    /// Writes a shorter manifest in place of the first one, padded with spaces to the length of that.
    fn replace_manifest(&self, manifest: &BundleManifest, len: usize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(manifest)?;
        text.resize(len, b' ');
        // The header of the first file stays.
        self.out.write_all_at(&text, tar_file::TAR_BLOCK_BYTES as u64).map_err(cannot_write(self.file))
    }

    /// Writes one zip, or nothing.
    async fn write_zip(&mut self, archive: &ExportedArchive, shared: bool) -> anyhow::Result<WrittenZip> {
        let start = self.out.stream_position().map_err(cannot_write(self.file))?;
        let key = &archive.key;
        let mut attempts = 1;
        loop {
            let ended = self.try_zip(archive, shared).await?;
            if !matches!(ended, WrittenZip::Whole) {
                let rewound = self.out.set_len(start).and_then(|()| self.out.seek(SeekFrom::Start(start)));
                rewound.map_err(cannot_write(self.file))?;
            }
            match ended {
                WrittenZip::LeftOut(_) if !shared => {
                    anyhow::bail!("{key} is damaged; srm-mirror cache verify mends it");
                }
                WrittenZip::BrokenOff(error) if !shared => return Err(error),
                // If the mirror or the bucket cannot be reached any more, the next attempt fails with that error.
                WrittenZip::BrokenOff(_) if attempts < ZIP_ATTEMPTS => attempts += 1,
                WrittenZip::BrokenOff(_) => {
                    let why = format!("there is no bundle: the bucket's bytes of {key} break off; it can be repeated");
                    return Err(Unavailable(why).into());
                }
                written => return Ok(written),
            }
        }
    }

    /// Writes one zip once; what is written of a zip that is not whole is for the caller to remove.
    async fn try_zip(&mut self, archive: &ExportedArchive, shared: bool) -> anyhow::Result<WrittenZip> {
        let ExportedArchive { key, meta, .. } = archive;
        let answer = self.client.read_archive(&ReadArchive { key: key.clone(), shared }).await;
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let code = error.downcast_ref::<AdminRefusal>().map(|refusal| refusal.code);
                if shared && code == Some(ErrorCode::NotStored) {
                    return Ok(WrittenZip::LeftOut(LeftOut::Missing));
                }
                return Err(classify_bucket_error(error)).with_context(|| format!("there is no bundle: export {key}"));
            }
        };
        let header = tar_file::header(&format!("blobs/{}", meta.digest), meta.len)?;
        self.out.write_all(header.as_bytes()).map_err(cannot_write(self.file))?;
        let mut sha = Sha256::new();
        let mut len = 0;
        loop {
            let chunk = match bounded::read_chunk(&mut answer, IDLE_TIMEOUT).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return Ok(WrittenZip::BrokenOff(error)),
            };
            len += chunk.len() as u64;
            sha.update(&chunk);
            if len > meta.len {
                return Ok(WrittenZip::LeftOut(LeftOut::Damaged));
            }
            self.out.write_all(&chunk).map_err(cannot_write(self.file))?;
            self.bar.advance(chunk.len() as u64);
        }
        if len != meta.len || Digest(sha.finalize().into()) != meta.digest {
            return Ok(WrittenZip::LeftOut(LeftOut::Damaged));
        }
        tar_file::pad(&mut self.out, len).map_err(cannot_write(self.file))?;
        Ok(WrittenZip::Whole)
    }
}
