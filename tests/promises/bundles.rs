//! Bundles: one mirror exports, another without a forge imports and serves; a hostile bundle changes nothing.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use srm_mirror::cache::policy::UpstreamMode;
use tempfile::TempDir;

use crate::{
    cache_ops::{cache, said},
    eventually::eventually,
    forge::Forge,
    mirror::setup,
    process::{Launch, files, spooled},
};

pub const PATHS: [&str; 11] = [
    "/devsapp/fc3/releases",
    "/devsapp/fc3/releases/latest",
    "/devsapp/fc3/zipball/v1.0.0",
    "/devsapp/fc3/zipball/1.1.0",
    "/repos/devsapp/fc3/releases/tags/v1.0.0",
    "/simple/devsapp/fc3/releases/latest",
    "/v3/packages/devsapp__fc3/release/latest",
    "/v3/packages/devsapp__fc3/release/tags/1.0.0",
    "/devsapp/fc3/flat/v1.1.0",
    "/devsapp/fc3/metadata/1.0.0",
    "/gitee/devsapp/demo/releases",
];

pub async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| r.file("index.js", b"1"))
        .release("v1.1.0", |r| r.file("index.js", b"2").noise("data.bin", 7, 300_000));
    forge.gitee_repo("devsapp/demo").release("v0.0.1", |r| r);
    forge
}

/// A cache directory with every package of the forge.
async fn filled(forge: &Forge) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(forge).start_in(dir.path()).await;
    for path in PATHS {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    mirror.stop().await;
    dir
}

/// A bundle of everything, and its directory.
pub async fn exported(forge: &Forge) -> (TempDir, PathBuf) {
    let from = filled(forge).await;
    let bundle = from.path().join("bundle.tar");
    let done = cache(from.path(), &["export", bundle.to_str().expect("text")]).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    (from, bundle)
}

pub async fn import(dir: &Path, bundle: &Path, more: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["import", bundle.to_str().expect("text")], more].concat();
    let done = cache(dir, &arguments).await;
    (done.status.code(), said(&done))
}

/// The files of a cache directory that a bundle may change.
pub fn state(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = ["blobs", "documents", "pins.jsonl"].map(|n| dir.join(n)).to_vec();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("read").path()));
        } else if path.is_file() {
            found.insert(path.clone(), fs::read(&path).expect("read"));
        }
    }
    found
}

/// A member of a bundle: its name and its bytes.
type Entry = (String, Vec<u8>);

#[tokio::test]
async fn a_mirror_without_a_forge_serves_what_another_exported() {
    let forge = forge().await;
    let (_from, bundle) = exported(&forge).await;
    let to = tempfile::tempdir().expect("a directory");
    let (code, text) = import(to.path(), &bundle, &["--dry-run"]).await;
    assert_eq!((code, state(to.path()).len()), (Some(0), 1), "a dry run takes nothing in: {text}");
    let (code, text) = import(to.path(), &bundle, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 zips"), "{text}");
    let (code, text) = import(to.path(), &bundle, &[]).await;
    assert!(code == Some(0) && text.contains("0 zips") && text.contains("2 zips were here already"), "{text}");

    // An interrupted import continues with what is missing.
    assert_eq!(cache(to.path(), &["rm", "devsapp/fc3@1.1.0", "--yes"]).await.status.code(), Some(0));
    let (code, text) = import(to.path(), &bundle, &[]).await;
    assert!(code == Some(0) && text.contains("1 zips were here already"), "{text}");

    let connections = forge.connections();
    let mirror = setup(&forge).with(|config| config.mode = UpstreamMode::Offline).start_in(to.path()).await;
    for path in PATHS {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
        assert!(got.cache_status().starts_with("srm-mirror; hit"), "{path}: {}", got.cache_status());
    }
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.1.0").await.sha256(), forge.sha256("devsapp/fc3", "v1.1.0"));
    mirror.stop().await;
    assert_eq!(forge.connections(), connections);
}

#[tokio::test]
async fn a_running_mirror_imports_a_bundle_and_serves_it_at_once() {
    let forge = forge().await;
    let (_from, bundle) = exported(&forge).await;
    let to = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).with(|config| config.mode = UpstreamMode::Offline).start_in(to.path()).await;
    assert_eq!((mirror.get(PATHS[0]).await.status, mirror.get(PATHS[2]).await.status), (503, 503));
    assert_eq!(import(to.path(), &bundle, &[]).await.0, Some(0));
    for path in PATHS {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_import_replaces_pinned_content_only_with_force() {
    let one = forge().await;
    let (_from, bundle) = exported(&one).await;
    let other = Forge::start().await;
    other.repo("devsapp/fc3").release("v1.0.0", |r| r.file("index.js", b"other"));
    let to = tempfile::tempdir().expect("a directory");
    let mirror = setup(&other).start_in(to.path()).await;
    let before = mirror.get(PATHS[2]).await.sha256();
    mirror.stop().await;
    let kept = state(to.path());
    let (code, text) = import(to.path(), &bundle, &[]).await;
    assert!(code == Some(1) && text.contains("conflict  github/devsapp/fc3/tag/v1.0.0"), "{code:?}: {text}");
    assert_eq!(state(to.path()), kept, "nothing of it was taken in");
    let (code, text) = import(to.path(), &bundle, &["--force"]).await;
    assert_eq!((code, state(to.path())), (Some(64), kept), "no terminal for the question: {text}");
    let (code, text) = import(to.path(), &bundle, &["--force", "--yes"]).await;
    assert_eq!(code, Some(0), "{text}");
    let mirror = setup(&other).start_in(to.path()).await;
    let after = mirror.get(PATHS[2]).await.sha256();
    assert_ne!(after, before);
    assert_eq!(after, one.sha256("devsapp/fc3", "v1.0.0"));
}

#[tokio::test]
async fn a_killed_import_leaves_whole_zips_and_the_next_run_imports_the_rest() {
    let forge = Forge::start().await;
    for n in 0..16 {
        forge.repo("devsapp/fc3").release(&format!("v1.{n}.0"), |r| r.noise("data.bin", n, 200_000));
    }
    let from = tempfile::tempdir().expect("a directory");
    let to = tempfile::tempdir().expect("a directory");
    let warmed = Launch::over(&forge, from.path(), &["warm", "--quiet", "devsapp/fc3@all"]).run().await;
    assert_eq!(warmed.code, Some(0), "{warmed:?}");
    let bundle = from.path().join("bundle.tar");
    let done = cache(from.path(), &["export", bundle.to_str().expect("text")]).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let job = Launch::over(&forge, to.path(), &["cache", "import", bundle.to_str().expect("text")]).begin();
    let stored = || files(&to.path().join("blobs")).iter().filter(|(path, _)| path.extension().is_some()).count();
    eventually("some are stored", async || stored() >= 3).await;
    job.kill().await;
    let before = stored();
    assert!((3..=16).contains(&before), "{before}");
    let (code, text) = import(to.path(), &bundle, &[]).await;
    assert!(code == Some(0) && text.contains("zips were here already"), "{code:?}: {text}");
    assert!(!text.contains("; 0 zips were here already"), "it began anew: {text}");
    assert_eq!((stored(), spooled(to.path())), (16, 0));
    let done = cache(to.path(), &["verify"]).await;
    assert!(done.status.code() == Some(0) && said(&done).contains("16 zips"), "{}", said(&done));
}

/// The files of a bundle, in order.
pub type Parts = Vec<(String, Vec<u8>)>;

pub fn read(bundle: &Path) -> Parts {
    let mut archive = tar::Archive::new(fs::File::open(bundle).expect("opens"));
    let entries = archive.entries().expect("a tar").map(|entry| {
        let mut entry = entry.expect("whole");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("read");
        (entry.path().expect("a name").to_str().expect("text").to_owned(), bytes)
    });
    entries.collect()
}

pub fn tar(parts: &Parts, change: impl Fn(&str, &mut tar::Header)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in parts {
        let mut header = tar::Header::new_ustar();
        // Written as bytes: the library refuses hostile names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        change(name, &mut header);
        header.set_cksum();
        builder.append(&header, &**bytes).expect("appended");
    }
    builder.into_inner().expect("whole")
}

/// Changes the manifest of a bundle.
pub fn manifest(parts: &Parts, change: impl Fn(&mut Value)) -> Parts {
    let mut parts = parts.clone();
    let mut value: Value = serde_json::from_slice(&parts[0].1).expect("JSON");
    change(&mut value);
    parts[0].1 = value.to_string().into_bytes();
    parts
}

/// Replaces the last zip by other bytes, with their digest and length.
fn with_zip(parts: &Parts, bytes: &[u8]) -> Parts {
    let digest = srm_mirror::entry::Digest::of(bytes).to_string();
    let old = parts.last().expect("a zip").0.trim_start_matches("blobs/").to_owned();
    let mut parts = manifest(parts, |value| {
        for zip in value["zips"].as_array_mut().expect("a list") {
            if zip["meta"]["digest"] == old.as_str() {
                zip["meta"]["digest"] = json!(digest);
                zip["meta"]["len"] = json!(bytes.len());
            }
        }
    });
    let last = parts.len() - 1;
    parts[last] = (format!("blobs/{digest}"), bytes.to_vec());
    parts
}

/// Changes the first document whose key contains `part`; the manifest is updated to match.
pub fn with_document(parts: &Parts, part: &str, change: impl Fn(&mut Value)) -> Parts {
    let mut parts = parts.clone();
    let has = |entry: &Entry| entry.0.starts_with("documents/") && String::from_utf8_lossy(&entry.1).contains(part);
    let at = parts.iter().position(has).expect("a document");
    let mut document: Value = serde_json::from_slice(&parts[at].1).expect("JSON");
    change(&mut document);
    let body = document["body"].as_str().expect("text");
    document["meta"]["digest"] = json!(srm_mirror::entry::Digest::of(body.as_bytes()).to_string());
    let text = document.to_string().into_bytes();
    let sha256 = srm_mirror::entry::Digest::of(&text).to_string();
    let old = std::mem::replace(&mut parts[at], (format!("documents/{sha256}"), text));
    manifest(&parts, |value| {
        let listed = value["documents"].as_array_mut().expect("a list").iter_mut();
        for row in listed.filter(|row| old.0.ends_with(row["sha256"].as_str().expect("text"))) {
            *row = json!({"key": document["key"], "sha256": sha256, "len": parts[at].1.len()});
        }
    })
}

/// A zip of a few KiB that says it unpacks to 17 GiB.
fn bomb() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("a/zeros", zip::write::SimpleFileOptions::default()).expect("begun");
    std::io::Write::write_all(&mut zip, &vec![0; 64 << 20]).expect("written");
    zip.finish().expect("whole").into_inner()
}

#[tokio::test]
async fn hostile_and_damaged_bundles_are_refused_with_nothing_changed() {
    let forge = forge().await;
    let (from, bundle) = exported(&forge).await;
    let parts = read(&bundle);
    let good = fs::read(&bundle).expect("read");
    let same = |_: &str, _: &mut tar::Header| {};
    let is_zip = |name: &str| name.starts_with("blobs/");
    let last = parts.len() - 1;
    let edit = |at: usize, change: &dyn Fn(&mut Entry)| {
        let mut parts = parts.clone();
        change(&mut parts[at]);
        tar(&parts, same)
    };
    let flip = |part: &mut (String, Vec<u8>)| *part.1.last_mut().expect("bytes") ^= 1;
    let more = |name: &str| {
        let mut parts = parts.clone();
        parts.push((name.to_owned(), b"x".to_vec()));
        tar(&parts, same)
    };
    let zip_key = |key: &str| tar(&manifest(&parts, |value| value["zips"][0]["key"] = json!(key)), same);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no tar", b"PK\x03\x04".repeat(1000)),
        ("a zip with a wrong digest", edit(last, &flip)),
        ("a document with a wrong digest", edit(1, &flip)),
        ("a name that climbs", edit(last, &|part| part.0 = "../../blobs/x".into())),
        ("an absolute name", edit(last, &|part| part.0 = "/etc/passwd".into())),
        ("a further name that climbs", more("../evil")),
        ("a further file", more("blobs/evil")),
        ("a missing zip", tar(&parts[..last].to_vec(), same)),
        (
            "a symbolic link",
            tar(&parts, |name, header| {
                if is_zip(name) {
                    header.set_entry_type(tar::EntryType::Symlink);
                }
            }),
        ),
        (
            "a hard link",
            tar(&parts, |name, header| {
                if is_zip(name) {
                    header.set_entry_type(tar::EntryType::Link);
                }
            }),
        ),
        (
            "a long name",
            tar(&parts, |name, header| {
                if is_zip(name) {
                    header.set_entry_type(tar::EntryType::GNULongName);
                }
            }),
        ),
        ("truncated in the first file", good[..700].to_vec()),
        ("truncated in the middle", good[..good.len() / 2].to_vec()),
        ("truncated in the last zip", good[..good.len() - 4096].to_vec()),
        ("another format", tar(&manifest(&parts, |value| value["format"] = json!(2)), same)),
        ("a key that is none", tar(&manifest(&parts, |value| value["zips"][0]["key"] = json!("../../x")), same)),
        ("a last key that is none", tar(&manifest(&parts, |value| value["zips"][1]["key"] = json!("github/x")), same)),
        ("another upstream", tar(&manifest(&parts, |value| value["zips"][0]["key"] = json!("evil/a/b/tag/v1")), same)),
        (
            "a manifest that is another's",
            tar(&manifest(&parts, |value| value["zips"][0]["meta"]["manifest"] = json!("00".repeat(32))), same),
        ),
        (
            "a zip that is listed twice",
            tar(
                &manifest(&parts, |value| {
                    let zips = value["zips"].as_array_mut().expect("a list");
                    zips.push(zips[0].clone());
                }),
                same,
            ),
        ),
        ("a document that is listed twice", {
            let mut parts = manifest(&parts, |value| {
                let documents = value["documents"].as_array_mut().expect("a list");
                documents.insert(0, documents[0].clone());
            });
            parts.insert(1, parts[1].clone());
            tar(&parts, same)
        }),
        ("a tag with an escape sequence", zip_key("github/devsapp/fc3/tag/\u{1b}[2Jv1")),
        ("a tag that climbs", zip_key("github/devsapp/fc3/tag/../../x")),
        ("a commit that is none", zip_key("github/devsapp/fc3/commit/HEAD")),
        (
            "a document of a tag with an escape sequence",
            tar(
                &with_document(&parts, "fc3/latest\"", |document| {
                    document["key"] = json!("github/devsapp/fc3/release/\u{1b}[2Jv1");
                }),
                same,
            ),
        ),
        (
            "an escape sequence where a number should be",
            tar(
                &manifest(&parts, |value| {
                    value["\u{1b}[2Jformat"] = json!(1);
                }),
                same,
            ),
        ),
        ("no zip at all", tar(&with_zip(&parts, &b"<html>".repeat(100)), same)),
        ("a bomb", tar(&with_zip(&parts, &bomb()), same)),
        (
            "a header that lies about the size",
            tar(&parts, |name, header| {
                if is_zip(name) {
                    header.set_size(1 << 40);
                }
            }),
        ),
    ];
    let to = tempfile::tempdir().expect("a directory");
    // Content that an import could change.
    let mirror = setup(&forge).start_in(to.path()).await;
    assert_eq!(mirror.get(PATHS[2]).await.status, 200);
    mirror.stop().await;
    let before = state(to.path());
    let config = from.path().join("small.toml");
    fs::write(&config, "[archives]\nmax_inflated = \"1MiB\"\n").expect("written");
    for (what, bytes) in cases {
        let path = from.path().join("hostile.tar");
        fs::write(&path, bytes).expect("written");
        let (code, text) =
            import(to.path(), &path, &["--force", "--yes", "--config", config.to_str().expect("text")]).await;
        assert_eq!(code, Some(64), "{what}: {text}");
        assert!(!text.contains('\u{1b}') && text.contains("hostile.tar"), "{what}: {text}");
        assert_eq!(state(to.path()), before, "{what}: {text}");
    }
    let (code, text) = import(to.path(), &bundle, &[]).await;
    assert_eq!(code, Some(0), "the bundle itself is good: {text}");
}
