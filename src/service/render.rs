//! From normalised documents to the JSON a dialect shows, under one base address. Same input, same bytes.
//!
//! The srm, simple and v3 dialects show a fixed set of fields. The github dialect shows every field the forge sent, in
//! GitHub's order, with the addresses that the mirror answers leading to the mirror. The value is bare: the dialect's
//! envelope is put around it by [`Dialect::success`], per request.

use bytes::Bytes;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    dialect::{ApiRoot, Dialect, Names, PackageId, zipball_url},
    package::{Asset, Metadata, PublishManifest, Release, Repository},
};

/// For whom documents are rendered. Everything in it belongs into the key of a cache of rendered JSON.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The dialect of the answer.
    pub dialect: Dialect,
    /// The mirror's own address as this client knows it, without a trailing slash.
    pub base: &'a str,
    /// What names mean.
    pub names: &'a Names,
    /// The package; its spelling is used in addresses.
    pub package: &'a PackageId,
}

/// A release as the srm, simple and v3 dialects show it (SRM's four fields are never null).
#[derive(Serialize)]
struct Plain<'a> {
    tag_name: &'a str,
    name: Option<&'a str>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    prerelease: bool,
    zipball_url: String,
    body: &'a str,
    assets: Vec<PlainAsset<'a>>,
}

/// An asset as the srm, simple and v3 dialects show it; facts the forge does not know are left out.
#[derive(Serialize)]
struct PlainAsset<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    browser_download_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
}

/// A package in the v3 dialect's list.
#[derive(Clone, Debug)]
pub struct Listed<'a> {
    /// The name the 3.x CLI asks for it by, see [`Names::v3_name`].
    pub name: String,
    /// What its `publish.yaml` says, where a zip of it was seen.
    pub manifest: Option<&'a PublishManifest>,
}

/// GitHub's order of a release's fields; others follow as the forge sent them.
const RELEASE: [&str; 20] = [
    "url",
    "assets_url",
    "upload_url",
    "html_url",
    "id",
    "author",
    "node_id",
    "tag_name",
    "target_commitish",
    "name",
    "draft",
    "immutable",
    "prerelease",
    "created_at",
    "updated_at",
    "published_at",
    "assets",
    "tarball_url",
    "zipball_url",
    "body",
];

/// GitHub's order of an asset's fields.
const ASSET: [&str; 14] = [
    "url",
    "id",
    "node_id",
    "name",
    "label",
    "uploader",
    "content_type",
    "state",
    "size",
    "digest",
    "download_count",
    "created_at",
    "updated_at",
    "browser_download_url",
];

/// GitHub's order of a repository's first fields.
const REPOSITORY: [&str; 10] =
    ["id", "node_id", "name", "full_name", "private", "owner", "html_url", "description", "fork", "url"];

/// Fields of a repository that speak of the mirror's own token: never shown.
const OF_THE_TOKEN: [&str; 2] = ["temp_clone_token", "permissions"];

impl View<'_> {
    /// A JSON array of releases, in their order.
    pub fn releases(&self, releases: &[Release]) -> Bytes {
        match self.dialect {
            Dialect::Github(root) => bytes(&releases.iter().map(|it| self.github(root, it)).collect::<Vec<_>>()),
            _ => bytes(&releases.iter().map(|it| self.plain(it)).collect::<Vec<_>>()),
        }
    }

    /// One release.
    pub fn release(&self, release: &Release) -> Bytes {
        match self.dialect {
            Dialect::Github(root) => bytes(&self.github(root, release)),
            _ => bytes(&self.plain(release)),
        }
    }

    /// The assets of one release.
    pub fn assets(&self, release: &Release) -> Bytes {
        match self.dialect {
            Dialect::Github(_) => bytes(&github_assets(release)),
            _ => bytes(&plain_assets(release)),
        }
    }

    /// The repository: every field the forge sent, its API addresses leading to the mirror.
    pub fn repository(&self, repository: &Repository) -> Bytes {
        let root = match self.dialect {
            Dialect::Github(root) => root,
            _ => ApiRoot::Plain,
        };
        let url = self.api_url(root);
        let mut rest = repository.rest.clone();
        scrub(&mut rest);
        // The forge's own address of the repository is the beginning of every address below it.
        let theirs = rest.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
        for value in rest.values_mut() {
            let below = value.as_str().filter(|_| !theirs.is_empty()).and_then(|text| text.strip_prefix(&theirs));
            if let Some(below) = below.filter(|below| below.is_empty() || below.starts_with(['/', '{'])) {
                *value = format!("{url}{below}").into();
            }
        }
        let (_, name) = repository.full_name.split_once('/').unwrap_or(("", &repository.full_name));
        let mut own = Map::new();
        own.insert("name".into(), rest.get("name").cloned().unwrap_or_else(|| name.into()));
        own.insert("full_name".into(), repository.full_name.as_str().into());
        own.insert("private".into(), repository.private.into());
        own.insert("releases_url".into(), format!("{url}/releases{{/id}}").into());
        own.insert("default_branch".into(), repository.default_branch.as_str().into());
        own.insert("url".into(), url.into());
        bytes(&ordered(&REPOSITORY, own, &rest))
    }

    /// The address of the package in the github dialect.
    fn api_url(&self, root: ApiRoot) -> String {
        format!("{}{}/repos/{}", self.base, root.as_str(), self.names.api_path(self.package))
    }

    fn zipball_url(&self, release: &Release) -> String {
        zipball_url(self.base, self.names, self.package, &release.tag_name, self.dialect.is_flat())
    }

    fn plain<'r>(&self, release: &'r Release) -> Plain<'r> {
        Plain {
            tag_name: &release.tag_name,
            name: release.name.as_deref(),
            created_at: instant(release.created_at),
            published_at: release.published_at.map(instant),
            prerelease: release.prerelease,
            zipball_url: self.zipball_url(release),
            body: &release.body,
            assets: plain_assets(release),
        }
    }

    fn github(&self, root: ApiRoot, release: &Release) -> Map<String, Value> {
        let releases = format!("{}/releases", self.api_url(root));
        let url = match release.rest.get("id").and_then(Value::as_u64) {
            Some(id) => format!("{releases}/{id}"),
            None => format!("{releases}/tags/{}", utf8_percent_encode(&release.tag_name, NON_ALPHANUMERIC)),
        };
        let mut own = Map::new();
        own.insert("assets_url".into(), format!("{url}/assets").into());
        own.insert("upload_url".into(), format!("{url}/assets{{?name,label}}").into());
        own.insert("url".into(), url.into());
        own.insert("tag_name".into(), release.tag_name.as_str().into());
        own.insert("name".into(), release.name.as_deref().into());
        // What is listed is no draft: the upstreams drop those.
        own.insert("draft".into(), false.into());
        own.insert("prerelease".into(), release.prerelease.into());
        own.insert("created_at".into(), instant(release.created_at).into());
        own.insert("published_at".into(), release.published_at.map(instant).into());
        own.insert("assets".into(), github_assets(release).into());
        own.insert("tarball_url".into(), Value::Null);
        own.insert("zipball_url".into(), self.zipball_url(release).into());
        own.insert("body".into(), release.body.as_str().into());
        ordered(&RELEASE, own, &release.rest)
    }
}

/// The release with the forge's own number.
pub fn by_id(releases: &[Release], id: u64) -> Option<&Release> {
    releases.iter().find(|release| release.rest.get("id").and_then(Value::as_u64) == Some(id))
}

/// One metadata record.
pub fn metadata(record: &Metadata) -> Bytes {
    bytes(record)
}

/// A JSON array of metadata records, in their order.
pub fn metadata_list(records: &[Metadata]) -> Bytes {
    bytes(records)
}

/// The v3 dialect's list of packages: `{type, name, description, category: {name}, tags}`, what is not known left out.
pub fn packages(listed: &[Listed<'_>]) -> Bytes {
    let row = |package: &Listed<'_>| {
        let mut row = Map::new();
        let manifest = package.manifest;
        if let Some(kind) = manifest.and_then(|it| it.kind.as_deref()) {
            row.insert("type".into(), kind.into());
        }
        row.insert("name".into(), package.name.as_str().into());
        if let Some(description) = manifest.and_then(|it| it.description.as_deref()) {
            row.insert("description".into(), description.into());
        }
        if let Some(category) = manifest.and_then(|it| it.category.as_deref()) {
            row.insert("category".into(), json!({ "name": category }));
        }
        if let Some(tags) = manifest.map(|it| &it.tags).filter(|tags| !tags.is_empty()) {
            row.insert("tags".into(), tags.as_slice().into());
        }
        row
    };
    bytes(&listed.iter().map(row).collect::<Vec<_>>())
}

fn plain_assets(release: &Release) -> Vec<PlainAsset<'_>> {
    release.assets.iter().map(PlainAsset::of).collect()
}

impl<'a> PlainAsset<'a> {
    fn of(asset: &'a Asset) -> Self {
        Self {
            name: asset.name.as_deref(),
            size: asset.size,
            content_type: asset.content_type.as_deref(),
            browser_download_url: asset.browser_download_url.as_deref(),
            digest: asset.digest.as_deref(),
        }
    }
}

fn github_assets(release: &Release) -> Vec<Value> {
    let github = |asset: &Asset| {
        let mut own = Map::new();
        let known = [
            ("name", asset.name.as_deref().map(Value::from)),
            ("size", asset.size.map(Value::from)),
            ("content_type", asset.content_type.as_deref().map(Value::from)),
            ("browser_download_url", asset.browser_download_url.as_deref().map(Value::from)),
            // Null is GitHub's own word for a digest it does not have.
            ("digest", Some(asset.digest.as_deref().into())),
        ];
        own.extend(known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        Value::Object(ordered(&ASSET, own, &asset.rest))
    };
    release.assets.iter().map(github).collect()
}

/// Joins our fields and the forge's: those in `order` first, then the rest as they come. Ours win.
fn ordered(order: &[&str], mut own: Map<String, Value>, rest: &Map<String, Value>) -> Map<String, Value> {
    let mut all = Map::with_capacity(own.len() + rest.len());
    for key in order {
        if let Some(value) = own.remove(*key).or_else(|| rest.get(*key).cloned()) {
            all.insert((*key).to_owned(), value);
        }
    }
    for (key, value) in rest {
        if !all.contains_key(key) {
            let value = own.remove(key).unwrap_or_else(|| value.clone());
            all.insert(key.clone(), value);
        }
    }
    all.extend(own);
    all
}

/// Removes what speaks of the token, from a fork's parents too.
fn scrub(fields: &mut Map<String, Value>) {
    fields.retain(|key, _| !OF_THE_TOKEN.contains(&key.as_str()));
    for value in fields.values_mut() {
        if let Value::Object(inner) = value {
            scrub(inner);
        }
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`, cut to seconds.
fn instant(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

fn bytes<T: Serialize + ?Sized>(value: &T) -> Bytes {
    // Serialising fails only for maps whose keys are no strings, of which there are none here.
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
