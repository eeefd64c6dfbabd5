//! The description of a release, tag or branch: files, packing and release fields.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    model::seconds,
    pack::{Data, File, Noise, Packing},
};

/// A file attached to a release.
#[derive(Clone, Debug)]
pub struct Asset {
    pub name: String,
    pub content_type: String,
    pub data: Bytes,
}

/// Chained in the closures of [`RepoRef`](super::RepoRef): `|r| r.file("index.js", "…").prerelease()`.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub(super) files: BTreeMap<String, File>,
    pub(super) packing: Packing,
    pub(super) raw_zip: Option<Bytes>,
    pub(super) salt: u64,
    pub(super) title: Option<String>,
    pub(super) body: Option<String>,
    pub(super) prerelease: bool,
    pub(super) draft: bool,
    pub(super) created_at: Option<i64>,
    pub(super) published_at: Option<i64>,
    pub(super) assets: Vec<Asset>,
}

impl Spec {
    pub(super) fn of_tag(tag: &str) -> Self {
        let spec = Self { title: Some(tag.to_owned()), body: Some(format!("Notes of {tag}")), ..Self::default() };
        spec.file("README.md", format!("# {tag}\n"))
    }

    /// Copies files and packing, without the release fields.
    pub(super) fn take_tree(&mut self, other: &Self) {
        self.files.clone_from(&other.files);
        self.packing = other.packing.clone();
        self.raw_zip.clone_from(&other.raw_zip);
        self.salt = other.salt;
    }

    /// A plain file.
    pub fn file(mut self, path: &str, data: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.to_owned(), File::plain(Bytes::copy_from_slice(data.as_ref())));
        self
    }

    /// An executable file (0755).
    pub fn executable(mut self, path: &str, data: impl AsRef<[u8]>) -> Self {
        let data = Data::Bytes(Bytes::copy_from_slice(data.as_ref()));
        self.files.insert(path.to_owned(), File { mode: 0o100_755, data });
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        let data = Data::Bytes(Bytes::copy_from_slice(target.as_bytes()));
        self.files.insert(path.to_owned(), File { mode: 0o120_000, data });
        self
    }

    pub fn without_file(mut self, path: &str) -> Self {
        self.files.remove(path);
        self
    }

    pub fn publish_yaml(self, text: &str) -> Self {
        self.file("publish.yaml", text)
    }

    /// `big.bin`: `len` incompressible bytes whose seed depends on the length.
    pub fn big(self, len: u64) -> Self {
        self.noise("big.bin", len, len)
    }

    /// A file of `len` incompressible bytes that depend on `seed` only; never held in memory.
    pub fn noise(mut self, path: &str, seed: u64, len: u64) -> Self {
        self.files.insert(path.to_owned(), File { mode: 0o100_644, data: Data::Noise(Noise { seed, len }) });
        self
    }

    /// Another commit with the same files.
    pub fn salt(mut self, salt: u64) -> Self {
        self.salt = salt;
        self
    }

    pub fn name(mut self, name: &str) -> Self {
        self.title = Some(name.to_owned());
        self
    }

    /// `"name": null`.
    pub fn no_name(mut self) -> Self {
        self.title = None;
        self
    }

    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    /// `"body": null`.
    pub fn no_body(mut self) -> Self {
        self.body = None;
        self
    }

    pub fn prerelease(mut self) -> Self {
        self.prerelease = true;
        self
    }

    pub fn draft(mut self) -> Self {
        self.draft = true;
        self
    }

    /// Turns a draft or prerelease into a full release.
    pub fn full(mut self) -> Self {
        self.draft = false;
        self.prerelease = false;
        self
    }

    /// RFC 3339.
    pub fn created_at(mut self, time: &str) -> Self {
        self.created_at = Some(seconds(time));
        self
    }

    /// RFC 3339.
    pub fn published_at(mut self, time: &str) -> Self {
        self.published_at = Some(seconds(time));
        self
    }

    pub fn asset(mut self, name: &str, content_type: &str, data: impl AsRef<[u8]>) -> Self {
        let data = Bytes::copy_from_slice(data.as_ref());
        self.assets.push(Asset { name: name.to_owned(), content_type: content_type.to_owned(), data });
        self
    }

    /// Stores every file uncompressed.
    pub fn stored(mut self) -> Self {
        self.packing.stored = true;
        self
    }

    /// Sizes follow the data.
    pub fn data_descriptors(mut self) -> Self {
        self.packing.descriptors = true;
        self
    }

    /// Writes a wrong CRC for every file.
    pub fn wrong_crc(mut self) -> Self {
        self.packing.wrong_crc = true;
        self
    }

    /// Files at the root of the zip.
    pub fn no_top_folder(mut self) -> Self {
        self.packing.top_folder = false;
        self
    }

    /// One top folder, also where the upstream's zips are flat.
    pub fn top_folder(mut self) -> Self {
        self.packing.top_folder = true;
        self
    }

    /// Folders without entries of their own.
    pub fn no_folder_entries(mut self) -> Self {
        self.packing.folder_entries = false;
        self
    }

    /// No commit in the zip's comment.
    pub fn no_commit_comment(mut self) -> Self {
        self.packing.commit_comment = false;
        self
    }

    /// Sends these bytes instead of the zip.
    pub fn raw_zip(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.raw_zip = Some(Bytes::copy_from_slice(bytes.as_ref()));
        self
    }
}
