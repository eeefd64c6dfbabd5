//! What the forge publishes, and what every answer is compared with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use bytes::Bytes;

use super::{
    dice::Dice,
    forge::{Forge, Spec},
    zip_entries::{self, Entries},
};

/// Repositories with zips of all sizes.
const REPOSITORIES: u64 = 12;
const TAGS: u64 = 4;
/// Releases of the repository with a long list.
const LONG_LIST: u64 = 120;

/// A version and the zips that are right answers for it.
pub(crate) struct PublishedVersion {
    pub(crate) tag: String,
    /// Every zip that was ever published: a moving version has several.
    zips: Mutex<Vec<Bytes>>,
    /// The flat view, once an answer had the right entries: all further ones must be the same.
    flat: Mutex<Option<Bytes>>,
}

/// A package at one address of the mirror.
pub(crate) struct PublishedPackage {
    /// What the paths of its zips begin with: `/soak/p0/zipball/`.
    pub(crate) zips: String,
    /// What the paths of its flat views begin with, where it has some.
    pub(crate) flats: Option<String>,
    /// Paths of JSON that names every version.
    pub(crate) lists: Vec<String>,
    /// What the path of one version's JSON begins with.
    pub(crate) tags: String,
    /// True if `lists` have pages.
    pub(crate) has_pages: bool,
    pub(crate) versions: Vec<PublishedVersion>,
}

/// Everything that the forge has.
pub(crate) struct Content {
    pub(crate) packages: Vec<PublishedPackage>,
}

impl PublishedVersion {
    fn new(tag: &str, zip: Bytes) -> Self {
        Self { tag: tag.to_owned(), zips: Mutex::new(vec![zip]), flat: Mutex::default() }
    }

    /// True if `accept` takes one of the zips.
    pub(crate) fn any_zip(&self, accept: impl Fn(&Bytes) -> bool) -> bool {
        self.zips.lock().expect("no panic").iter().any(accept)
    }

    /// The length of the zip that was published last, bytes.
    pub(crate) fn len(&self) -> u64 {
        self.zips.lock().expect("no panic").last().map_or(0, |zip| zip.len() as u64)
    }

    /// True if `body` is the flat view: the entries of the zip without its top folder, byte by byte the same as before.
    pub(crate) fn accepts_flat(&self, body: &Bytes) -> bool {
        if let Some(flat) = self.flat() {
            return flat == *body;
        }
        let Some(entries) = zip_entries::read(body) else { return false };
        let right = self.any_zip(|zip| zip_entries::read(zip).is_some_and(|all| without_top_folder(all) == entries));
        if right {
            self.flat.lock().expect("no panic").get_or_insert_with(|| body.clone());
        }
        right
    }

    /// The flat view, if one was received whole.
    pub(crate) fn flat(&self) -> Option<Bytes> {
        self.flat.lock().expect("no panic").clone()
    }
}

fn without_top_folder(entries: Entries) -> Entries {
    let flat = entries.into_iter().filter_map(|(name, entry)| {
        let rest = name.split_once('/')?.1.to_owned();
        (!rest.is_empty()).then_some((rest, entry))
    });
    flat.collect::<BTreeMap<_, _>>()
}

impl PublishedPackage {
    /// The tags that a list must have.
    pub(crate) fn tags(&self) -> BTreeSet<&str> {
        self.versions.iter().map(|version| version.tag.as_str()).collect()
    }
}

impl Content {
    /// Publishes everything on `forge`.
    pub(crate) fn publish(forge: &Forge, seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let mut packages = Vec::new();
        for n in 0..REPOSITORIES {
            let name = format!("soak/p{n}");
            let mut repo = forge.repo(&name);
            for tag in tags(TAGS) {
                let len = zip_len(dice);
                repo = repo.release(&tag, |spec| files(spec, &name, &tag, len));
            }
            packages.push(repository(&name, "", tags(TAGS).map(|tag| version(&tag, &repo))));
        }
        for n in 0..4 {
            let name = format!("soak/g{n}");
            let mut repo = forge.gitee_repo(&name);
            for tag in tags(2) {
                let len = zip_len(dice);
                repo = repo.release(&tag, |spec| files(spec, &name, &tag, len));
            }
            packages.push(repository(&name, "/gitee", tags(2).map(|tag| version(&tag, &repo))));
        }
        let mut many = forge.repo("soak/many");
        for tag in tags(LONG_LIST) {
            many = many.release(&tag, |spec| spec.body(&format!("Notes of {tag}\n").repeat(40)));
        }
        packages.push(repository("soak/many", "", tags(LONG_LIST).map(|tag| version(&tag, &many))));
        packages.extend(registries(forge, dice));
        Self { packages }
    }

    /// Publishes the moving version again, with a content of its own for each `number`.
    pub(crate) fn move_on(&self, forge: &Forge, number: u64) {
        let moving = self.packages.iter().flat_map(|package| &package.versions).find(|version| version.tag == "dev");
        let Some(moving) = moving else { return };
        let make = |spec: Spec| spec.noise("data.bin", number, 40_000 + number % 7 * 1000);
        // Held until the zip is among the right ones: no client may compare it earlier.
        let mut zips = moving.zips.lock().expect("no panic");
        zips.push(forge.registry().component("c0").republish("dev", make).zip_bytes("dev"));
    }
}

fn tags(count: u64) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("v1.{n}.0"))
}

/// Mostly small, sometimes some megabytes.
fn zip_len(dice: &mut Dice) -> u64 {
    match dice.roll(10) {
        0..4 => 2_000 + dice.roll(60_000),
        4..8 => 100_000 + dice.roll(900_000),
        8 => 1_000_000 + dice.roll(2_000_000),
        _ => 5_000_000 + dice.roll(1_000_000),
    }
}

fn files(spec: Spec, name: &str, tag: &str, len: u64) -> Spec {
    let text = format!("{name} {tag} says the same again and again\n").repeat(200);
    let spec = spec.noise("data.bin", len, len).file("docs/text.md", text).executable("bin/run", "#!/bin/sh\n");
    spec.publish_yaml(&format!("Type: Component\nName: {}\nVersion: {tag}\n", name.replace('/', "-")))
}

fn version(tag: &str, repo: &super::forge::RepoRef) -> PublishedVersion {
    PublishedVersion::new(tag, repo.zip_bytes(tag))
}

fn repository(name: &str, upstream: &str, versions: impl Iterator<Item = PublishedVersion>) -> PublishedPackage {
    let root = format!("{upstream}/{name}");
    let mut lists = vec![format!("{root}/releases")];
    if upstream.is_empty() {
        lists.push(format!("/repos{root}/releases"));
    }
    PublishedPackage {
        zips: format!("{root}/zipball/"),
        flats: Some(format!("{root}/flat/")),
        lists,
        tags: format!("{root}/releases/tags/"),
        has_pages: true,
        versions: versions.collect(),
    }
}

/// The packages of the registries, and a moving version.
fn registries(forge: &Forge, dice: &mut Dice) -> Vec<PublishedPackage> {
    let mut packages = Vec::new();
    for n in 0..4 {
        let name = format!("c{n}");
        let mut component = forge.registry().component(&name);
        let tags = ["0.0.1", "0.0.2", "0.0.3", "dev"];
        let tags = &tags[..if n == 0 { 4 } else { 3 }];
        for tag in tags {
            let len = zip_len(dice);
            component = component.version_with(tag, |spec| spec.noise("data.bin", len, len));
        }
        let versions = tags.iter().map(|tag| PublishedVersion::new(tag, component.zip_bytes(tag)));
        packages.push(PublishedPackage {
            zips: format!("/v3/packages/{name}/zipball/"),
            flats: None,
            lists: Vec::new(),
            tags: format!("/v3/packages/{name}/release/tags/"),
            has_pages: false,
            versions: versions.collect(),
        });
    }
    for n in 0..3 {
        let name = format!("s{n}");
        let mut component = forge.simple_registry().component(&name);
        for tag in ["0.0.1", "0.0.2"] {
            let len = zip_len(dice);
            component = component.version_with(tag, |spec| spec.noise("data.bin", len, len));
        }
        let versions = ["0.0.1", "0.0.2"].map(|tag| PublishedVersion::new(tag, component.zip_bytes(tag)));
        packages.push(PublishedPackage {
            zips: format!("/simple/{name}/zipball/"),
            flats: None,
            lists: vec![format!("/simple/{name}/releases")],
            tags: format!("/simple/{name}/releases/tags/"),
            has_pages: false,
            versions: versions.into(),
        });
    }
    packages
}
