//! Renders normalised documents as the JSON of a dialect, under one base address. The same input gives the same bytes. Lists
//! are rendered item by item.
//!
//! The srm, simple and v3 dialects show a fixed set of fields. The github dialect shows every field that the forge sent,
//! in GitHub's order; links that the mirror can answer lead to the mirror. Clients get renditions, which are made of this JSON:
//! see [`super::rendition`].

use jiff::Timestamp;
use percent_encoding::NON_ALPHANUMERIC;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    dialect::{ApiRoot, Dialect, Names, PackageId, encoded_segment, folder_zipball_url, zipball_url},
    package::{Asset, FolderPackage, Metadata, NameForm, Release, Repository},
    registry::release_facts::ArchiveFacts,
};

mod catalog;
mod details;

pub use catalog::{CatalogRow, menu, packages};
pub(in crate::service) use details::are_missing as lacks_details;

/// Renders the documents of one package. The key of a cache of rendered JSON needs every field but `base`.
#[derive(Clone, Copy, Debug)]
pub struct Renderer<'a> {
    /// The dialect of the response.
    pub dialect: Dialect,
    /// The mirror's own address as this client used it, without a trailing slash, or a marker for it. Links start with it.
    pub base: &'a str,
    /// The text behind the address of a zip: a signature, a marker for it, or nothing.
    pub signature: &'a str,
    /// The configured names and aliases.
    pub names: &'a Names,
    /// The package; links contain its name in this spelling.
    pub package: &'a PackageId,
    /// The folder of the package that the documents are of; `None` for the whole package.
    pub folder: Option<&'a FolderPackage>,
}

/// A release in the srm, simple and v3 dialects. The four fields of the Serverless Registry Model are never null.
#[derive(Serialize)]
struct SrmRelease<'a> {
    tag_name: &'a str,
    name: Option<&'a str>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    prerelease: bool,
    zipball_url: String,
    body: &'a str,
    assets: Vec<SrmAsset<'a>>,
}

/// An asset in the srm, simple and v3 dialects, without the fields that the forge did not send.
#[derive(Serialize)]
struct SrmAsset<'a> {
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

/// A release as a row of the v3 dialect's list of versions.
#[derive(Serialize)]
struct VersionRow<'a> {
    platform: u8,
    #[serde(flatten)]
    release: SrmRelease<'a>,
}

/// A release of the v3 dialect with what is known of the package.
#[derive(Serialize)]
struct DetailedRelease<'a> {
    #[serde(flatten)]
    release: SrmRelease<'a>,
    #[serde(flatten)]
    details: Map<String, Value>,
}

/// The 3.x platform, as the registry numbers it.
const PLATFORM: u8 = 3;

/// GitHub's order of a release's fields. Other fields follow in the forge's order.
const RELEASE_FIELDS: [&str; 20] = [
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
const ASSET_FIELDS: [&str; 14] = [
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
const REPOSITORY_FIELDS: [&str; 10] =
    ["id", "node_id", "name", "full_name", "private", "owner", "html_url", "description", "fork", "url"];

/// Fields of a repository that depend on the mirror's own token: never shown.
const TOKEN_FIELDS: [&str; 2] = ["temp_clone_token", "permissions"];

impl Renderer<'_> {
    /// One release.
    pub fn release(&self, release: &Release) -> String {
        match self.dialect {
            Dialect::Github(root) => to_json(&self.github_release(root, release)),
            _ => to_json(&self.srm_release(release)),
        }
    }

    /// One release as a row of the v3 dialect's list of versions.
    pub fn release_row(&self, release: &Release) -> String {
        to_json(&VersionRow { platform: PLATFORM, release: self.srm_release(release) })
    }

    /// One release in the v3 dialect, with what its upstream and its archive say of the package.
    pub fn detailed_release(&self, release: &Release, facts: Option<&ArchiveFacts>) -> String {
        to_json(&DetailedRelease {
            release: self.srm_release(release),
            details: details::of_release(self.package, release, facts),
        })
    }

    /// The assets of one release.
    pub fn assets(&self, release: &Release) -> String {
        match self.dialect {
            Dialect::Github(_) => to_json(&github_assets(release)),
            _ => to_json(&srm_assets(release)),
        }
    }

    /// The repository: every field that the forge sent; links to the forge's API lead to the mirror instead.
    pub fn repository(&self, repository: &Repository) -> String {
        let root = match self.dialect {
            Dialect::Github(root) => root,
            _ => ApiRoot::Plain,
        };
        let url = self.api_url(root);
        let mut rest = repository.rest.clone();
        remove_token_fields(&mut rest);
        // Every API link of a repository starts with the forge's own address of it.
        let forge_url = rest.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
        for value in rest.values_mut() {
            let rest = value.as_str().filter(|_| !forge_url.is_empty()).and_then(|text| text.strip_prefix(&forge_url));
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with(['/', '{'])) {
                *value = format!("{url}{rest}").into();
            }
        }
        // A registry has plain names: the full name is the one by which this dialect knows the package.
        let full_name = match self.package.name.form() {
            NameForm::Repository => repository.full_name.clone(),
            NameForm::Plain => self.names.api_path(self.package),
        };
        let (_, name) = full_name.split_once('/').unwrap_or(("", &full_name));
        let mut own = Map::new();
        own.insert("name".into(), rest.get("name").cloned().unwrap_or_else(|| name.into()));
        own.insert("full_name".into(), full_name.as_str().into());
        own.insert("private".into(), repository.private.into());
        own.insert("releases_url".into(), format!("{url}/releases{{/id}}").into());
        if !repository.default_branch.is_empty() {
            own.insert("default_branch".into(), repository.default_branch.as_str().into());
        }
        own.insert("url".into(), url.into());
        to_json(&merge_in_order(&REPOSITORY_FIELDS, own, &rest))
    }

    /// The URL of the package in the github dialect.
    fn api_url(&self, root: ApiRoot) -> String {
        format!("{}{}/repos/{}", self.base, root.as_str(), self.names.api_path(self.package))
    }

    fn zipball_url(&self, release: &Release) -> String {
        let dialect = self.dialect.name();
        let url = match self.folder {
            Some(folder) => folder_zipball_url(self.base, folder, &release.tag_name, dialect),
            None => zipball_url(self.base, self.names, self.package, &release.tag_name, dialect),
        };
        url + self.signature
    }

    fn srm_release<'r>(&self, release: &'r Release) -> SrmRelease<'r> {
        SrmRelease {
            tag_name: &release.tag_name,
            name: release.name.as_deref(),
            created_at: whole_second(release.created_at),
            published_at: release.published_at.map(whole_second),
            prerelease: release.prerelease,
            zipball_url: self.zipball_url(release),
            body: &release.body,
            assets: srm_assets(release),
        }
    }

    fn github_release(&self, root: ApiRoot, release: &Release) -> Map<String, Value> {
        let releases = format!("{}/releases", self.api_url(root));
        let url = match forge_id(self.package, release) {
            Some(id) => format!("{releases}/{id}"),
            None => format!("{releases}/tags/{}", encoded_segment(&release.tag_name, NON_ALPHANUMERIC)),
        };
        let mut own = Map::new();
        own.insert("assets_url".into(), format!("{url}/assets").into());
        own.insert("upload_url".into(), format!("{url}/assets{{?name,label}}").into());
        own.insert("url".into(), url.into());
        own.insert("tag_name".into(), release.tag_name.as_str().into());
        own.insert("name".into(), release.name.as_deref().into());
        // Upstreams drop drafts before a list is stored.
        own.insert("draft".into(), false.into());
        own.insert("prerelease".into(), release.prerelease.into());
        own.insert("created_at".into(), whole_second(release.created_at).into());
        own.insert("published_at".into(), release.published_at.map(whole_second).into());
        own.insert("assets".into(), github_assets(release).into());
        own.insert("tarball_url".into(), Value::Null);
        own.insert("zipball_url".into(), self.zipball_url(release).into());
        own.insert("body".into(), release.body.as_str().into());
        match self.package.name.form() {
            NameForm::Repository => merge_in_order(&RELEASE_FIELDS, own, &release.rest),
            // The further fields of a registry describe its package, not the release.
            NameForm::Plain => merge_in_order(&RELEASE_FIELDS, own, &Map::new()),
        }
    }
}

/// Finds a release of a package by the forge's own id; returns its index.
pub fn find_by_id(package: &PackageId, releases: &[Release], id: u64) -> Option<usize> {
    releases.iter().position(|release| forge_id(package, release) == Some(id))
}

/// The forge's own id of a release; a registry has none.
fn forge_id(package: &PackageId, release: &Release) -> Option<u64> {
    let is_forge = package.name.form() == NameForm::Repository;
    release.rest.get("id").and_then(Value::as_u64).filter(|_| is_forge)
}

/// One metadata record.
pub fn metadata(record: &Metadata) -> String {
    to_json(record)
}

fn srm_assets(release: &Release) -> Vec<SrmAsset<'_>> {
    release.assets.iter().map(SrmAsset::of).collect()
}

impl<'a> SrmAsset<'a> {
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
        let optional = [
            ("name", asset.name.as_deref().map(Value::from)),
            ("size", asset.size.map(Value::from)),
            ("content_type", asset.content_type.as_deref().map(Value::from)),
            ("browser_download_url", asset.browser_download_url.as_deref().map(Value::from)),
            // GitHub sends null for a digest that it does not have.
            ("digest", Some(asset.digest.as_deref().into())),
        ];
        own.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        Value::Object(merge_in_order(&ASSET_FIELDS, own, &asset.rest))
    };
    release.assets.iter().map(github).collect()
}

/// Merges our fields with the forge's: those in `order` first, then the others in the forge's order. Ours win.
fn merge_in_order(order: &[&str], mut own: Map<String, Value>, rest: &Map<String, Value>) -> Map<String, Value> {
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

/// Removes the fields that depend on the mirror's token, from a fork's parents too.
fn remove_token_fields(fields: &mut Map<String, Value>) {
    fields.retain(|key, _| !TOKEN_FIELDS.contains(&key.as_str()));
    for value in fields.values_mut() {
        if let Value::Object(inner) = value {
            remove_token_fields(inner);
        }
    }
}

/// `YYYY-MM-DDTHH:MM:SSZ`, truncated to seconds.
fn whole_second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    // Serialising fails only for maps with keys that are not strings; there are none here.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
