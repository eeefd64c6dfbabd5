//! The claims of a bundle are verified before use, and the reports of export and import are true.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    bundles::{PATHS, exported, forge, import, manifest, read, tar, with_document},
    cache_ops::{cache, said},
    forge::Host,
    mirror::setup,
    process::Launch,
};

fn same(_: &str, _: &mut tar::Header) {}

#[tokio::test]
async fn a_forged_list_is_not_confirmed_by_its_own_validators() {
    let forge = forge().await;
    let (from, bundle) = exported(&forge).await;
    let parts = with_document(&read(&bundle), "fc3/releases\"", |document| {
        let body = document["body"].as_str().expect("text").replace("v1.1.0", "v6.6.6");
        document["body"] = json!(body);
    });
    let path = from.path().join("forged.tar");
    fs::write(&path, tar(&parts, same)).expect("written");
    let to = tempfile::tempdir().expect("a directory");
    let (code, text) = import(to.path(), &path, &[]).await;
    assert_eq!(code, Some(0), "{text}");
    let mirror = setup(&forge).start_in(to.path()).await;
    mirror.clock.advance(std::time::Duration::from_secs(48 * 3600));
    let asked = forge.count(|seen| seen.host == Host::GithubApi);
    let list = mirror.get(PATHS[0]).await;
    let text = String::from_utf8_lossy(&list.body).into_owned();
    assert!(forge.count(|seen| seen.host == Host::GithubApi) > asked, "no upstream request: {}", list.cache_status());
    assert!(text.contains("v1.1.0") && !text.contains("v6.6.6"), "{}: {text}", list.cache_status());
}

#[tokio::test]
async fn a_document_that_cannot_be_stored_is_an_error_and_not_counted() {
    let forge = forge().await;
    let (_from, bundle) = exported(&forge).await;
    let to = tempfile::tempdir().expect("a directory");
    let _mirror = setup(&forge).start_in(to.path()).await;
    let documents = to.path().join("documents");
    fs::remove_dir_all(&documents).expect("the folder");
    fs::write(&documents, "not a folder").expect("a file in its place");
    let (code, text) = import(to.path(), &bundle, &[]).await;
    assert_eq!(code, Some(74), "{text}");
    assert!(text.contains("bundle.tar: a stored document cannot be read"), "{text}");
    assert!(!text.contains("documents imported"), "{text}");

    // This mirror accepts zips but no documents.
    let to = tempfile::tempdir().expect("a directory");
    let import = Launch::over(&forge, to.path(), &["cache", "import", bundle.to_str().expect("text")]);
    let ended = import.set("disk.documents", "1KiB").run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("import g") && ended.err.contains("no room for it in the cache"), "{ended:?}");
    assert!(!ended.out.contains("documents imported"), "{ended:?}");
}

#[tokio::test]
async fn a_bundle_of_thousands_of_zips_is_planned_in_parts() {
    let forge = forge().await;
    let (from, bundle) = exported(&forge).await;
    let parts = manifest(&read(&bundle), |value| {
        let zips = value["zips"].as_array_mut().expect("a list");
        for n in 0..2500 {
            let mut zip = zips[n % 2].clone();
            zip["key"] = json!(format!("github/devsapp/fc3/tag/v7.{n}.0"));
            zips.push(zip);
        }
    });
    let path = from.path().join("large.tar");
    fs::write(&path, tar(&parts, same)).expect("written");
    let (code, text) = import(from.path(), &path, &["--dry-run"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2500 zips") && text.contains("2 are here already"), "{text}");
}

#[tokio::test]
async fn an_export_overwrites_no_foreign_file_and_names_what_it_cannot_write() {
    let forge = forge().await;
    let (from, bundle) = exported(&forge).await;
    let foreign = from.path().join("bundle.tar.partial");
    fs::write(&foreign, "mine").expect("written");
    let good = fs::read(&bundle).expect("read");
    let export = async |file: &Path, pattern: &str| {
        let done = cache(from.path(), &["export", file.to_str().expect("text"), pattern]).await;
        (done.status.code(), said(&done))
    };
    let (code, text) = export(&bundle, "devsapp/nothing").await;
    assert!(code == Some(1) && text.contains("no stored zip matches"), "{text}");
    assert_eq!(fs::read(&bundle).expect("read"), good, "nothing was exported and the old bundle is gone");
    assert_eq!(export(&bundle, "devsapp/*").await.0, Some(0));
    assert_eq!(fs::read_to_string(&foreign).expect("still there"), "mine");
    let names = fs::read_dir(from.path()).expect("a folder").flatten().map(|entry| entry.file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("partial")).count(), 1, "a draft is left");
    let nowhere = from.path().join("nowhere/bundle.tar");
    let (code, text) = export(&nowhere, "devsapp/*").await;
    assert!(code == Some(74) && text.contains("nowhere"), "{code:?}: {text}");
    let (code, text) = import(from.path(), &nowhere, &[]).await;
    assert!(code == Some(74) && text.contains("nowhere/bundle.tar"), "{code:?}: {text}");
}
