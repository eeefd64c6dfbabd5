//! A cache directory of an earlier release is taken over as it is: nothing is fetched again, nothing is forgotten.
//!
//! `tests/fixtures/cache-format-1.tar.gz` was written by release 0.1.0: `closed/` after SIGTERM, `killed/` copied while
//! the process was running, as a kill leaves it. In both: three zips of `bench/pkg` (v1.0.0 and v1.0.2 kept), the pin of
//! v1.0.1 whose zip was removed, the head of a branch of `devsapp/fc3`, and documents of three packages on two upstreams.
//! A change of the format adds a fixture beside this one; it never replaces it.

use std::{fs, io::Cursor, path::Path};

use crate::{forge::Forge, mirror::setup, process::Launch};

const FIXTURE: &[u8] = include_bytes!("../fixtures/cache-format-1.tar.gz");

/// SHA-256 of each stored zip, by the path that serves it.
const ZIPS: [(&str, &str); 4] = [
    ("/bench/pkg/zipball/v1.0.0", "e079dea97031dfa7d6651184d6f55caaea2b0ccacec9ebeeb35e40c47c06e8dd"),
    ("/bench/pkg/zipball/v1.0.2", "cc661a10da1fb647759fbc9909ebcdb0b7e459ee77ea3417b8d2eef5eaf970d1"),
    ("/bench/pkg/zipball/v1.0.3", "384ceff657ea3a883dbe54be5de082b92d7f880e4b658f91413a083cb72bfb9d"),
    ("/devsapp/fc3/zipball/main", "f81b4fbc598f403593ee14c03cb06f6d5a48488fa51037e7c5c97d219f905d45"),
];

/// Stored documents, and how many releases each lists (`None`: it is no list).
const DOCUMENTS: [(&str, Option<usize>); 6] = [
    ("/bench/pkg/releases", Some(4)),
    ("/devsapp/fc3/releases", Some(4)),
    ("/devsapp/fc3/releases/latest", None),
    ("/repos/devsapp/fc3", None),
    ("/gitee/devsapp/start-demo/releases", Some(4)),
    ("/gitee/devsapp/start-demo/releases/latest", None),
];

/// Unpacks one directory of the fixture into an empty folder.
fn unpack(which: &str, into: &Path) {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(FIXTURE));
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").into_owned();
        let Ok(path) = path.strip_prefix(which) else { continue };
        let target = into.join(path);
        if entry.header().entry_type().is_dir() {
            fs::create_dir_all(target).expect("a folder");
        } else {
            entry.unpack(target).expect("a file");
        }
    }
}

/// Starts over one directory of the fixture with the forge down, after `change`, and expects everything in it.
async fn is_taken_over(which: &str, change: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().expect("a directory");
    unpack(which, dir.path());
    change(dir.path());
    let forge = Forge::start().await;
    forge.down().await;

    let mirror = setup(&forge).start_in(dir.path()).await;
    for (path, digest) in ZIPS {
        let got = mirror.get(path).await;
        assert_eq!((got.status, got.sha256()), (200, digest.to_owned()), "{path}: {}", got.cache_status());
        let expected = if path.ends_with("/main") { "stale-if-error" } else { "srm-mirror; hit" };
        assert!(got.cache_status().contains(expected), "{path}: {}", got.cache_status());
    }
    let flat = mirror.get("/bench/pkg/flat/v1.0.0").await;
    assert_eq!(flat.status, 200, "{:?}", flat.body);
    let zip = zip::ZipArchive::new(Cursor::new(flat.body)).expect("a zip");
    assert!(zip.file_names().all(|name| name.is_ok_and(|name| !name.contains('/'))), "without the top folder");
    for (path, releases) in DOCUMENTS {
        let got = mirror.get(path).await;
        assert_eq!(got.status, 200, "{path}: {:?}", got.body);
        assert_eq!(got.json().as_array().map(Vec::len), releases, "{path}");
    }
    mirror.stop().await;

    let list = Launch::over(&forge, dir.path(), &["cache", "ls", "--json"]).run().await;
    assert_eq!(list.code, Some(0), "{}", list.err);
    let rows: Vec<serde_json::Value> =
        list.out.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    assert_eq!(rows.len(), ZIPS.len(), "{}", list.out);
    for row in rows {
        let version = row["version"].as_str().expect("a version");
        assert_eq!(row["kept"], ["v1.0.0", "v1.0.2"].contains(&version), "{row}");
        assert_eq!(row["pinned"], true, "{row}");
    }

    // The pin of the zip that was removed judges what the upstream sends now.
    forge.up().await;
    forge.repo("bench/pkg").release("v1.0.1", |release| release.file("other.txt", b"other content"));
    let mirror = setup(&forge).start_in(dir.path()).await;
    let got = mirror.get("/bench/pkg/zipball/v1.0.1").await;
    assert_eq!(got.status, 502);
    assert!(String::from_utf8_lossy(&got.body).contains("pin-mismatch"), "{:?}", got.body);
    mirror.stop().await;
}

#[tokio::test]
async fn a_directory_of_format_1_that_was_closed_is_taken_over() {
    is_taken_over("closed", |_| {}).await;
}

#[tokio::test]
async fn a_directory_of_format_1_that_was_killed_is_taken_over() {
    is_taken_over("killed", |_| {}).await;
}

#[tokio::test]
async fn a_directory_of_format_1_without_its_index_is_taken_over() {
    is_taken_over("closed", |dir| fs::remove_file(dir.join("index.redb")).expect("removed")).await;
}
