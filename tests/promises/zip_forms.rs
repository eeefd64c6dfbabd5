//! Every dialect has zips in the form that its clients unpack: flat for v3, one top folder for the others, whatever the
//! upstream sends; made from one stored zip, with its own digest, ETag and ranges.

use std::io::{Cursor, Read};

use crate::{
    forge::{Forge, Spec},
    mirror::{Mirror, TestResponse},
    zips::{blobs, eventually},
};

/// What an unpacker writes: path, content, Unix mode; without the entries of folders.
fn unpacked(bytes: &[u8]) -> Vec<(String, Vec<u8>, Option<u32>)> {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
    let mut files = Vec::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).expect("an entry");
        let name = file.name().expect("a name").into_owned();
        let mode = file.unix_mode();
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("content with the right CRC");
        if !name.ends_with('/') {
            files.push((name, content, mode));
        }
    }
    files
}

/// The same with `top/` in front of every path.
fn in_folder(bytes: &[u8], top: &str) -> Vec<(String, Vec<u8>, Option<u32>)> {
    unpacked(bytes).into_iter().map(|(name, content, mode)| (format!("{top}/{name}"), content, mode)).collect()
}

fn larger(spec: Spec) -> Spec {
    spec.file("lib/text.txt", "text\n".repeat(100_000))
        .executable("bin/run", "#!/bin/sh\n")
        .symlink("link", "lib/text.txt")
}

/// Expects the headers of a complete zip of these bytes.
fn is_complete(got: &TestResponse) {
    assert_eq!(got.status, 200, "{:?}", got.body);
    assert_eq!(got.header("etag"), format!("\"{}\"", got.sha256()));
    assert_eq!(got.repr_digest(), srm_mirror::entry::Digest::of(&got.body).0);
    assert_eq!(got.header("content-length"), got.body.len().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flat_zip_of_a_registry_has_one_folder_in_the_dialects_that_remove_one() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version_with("0.1.22", larger);
    let mirror = Mirror::over(&forge).await;
    let foldered = mirror.get("/official/fc3/zipball/0.1.22").await;
    is_complete(&foldered);
    let plain = fc3.zip_bytes("0.1.22");
    assert_eq!(unpacked(&foldered.body), in_folder(&plain, "fc3-0.1.22"));
    let flat = mirror.get("/v3/packages/official__fc3/zipball/0.1.22").await;
    is_complete(&flat);
    assert_eq!(flat.body, plain, "the registry's own bytes");
    let simple = mirror.get("/simple/official/fc3/zipball/0.1.22").await;
    assert_eq!((simple.header("etag"), &simple.body), (foldered.header("etag"), &foldered.body), "one view");
    eventually("it is stored", || blobs(mirror.dir()) == 1).await;

    let etag = foldered.header("etag").to_owned();
    let end = foldered.body.len();
    for (from, to) in [(0, 0), (20, 60), (end / 2, end - 1), (end - 30, end - 1), (1, end - 1)] {
        let range = format!("bytes={from}-{to}");
        let headers = [("range", &*range), ("if-range", &*etag)];
        let part = mirror.get_with("/official/fc3/zipball/0.1.22", &headers).await;
        assert_eq!((part.status, part.body), (206, foldered.body.slice(from..=to)), "{range}");
    }
    let unchanged = mirror.get_with("/official/fc3/zipball/0.1.22", &[("if-none-match", &etag)]).await;
    assert_eq!(unchanged.status, 304);
    let head = mirror.head("/official/fc3/zipball/0.1.22").await;
    assert_eq!((head.header("content-length"), head.header("etag")), (&*end.to_string(), &*etag));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foldered_zip_of_a_registry_is_flat_in_the_v3_dialect() {
    let forge = Forge::start().await;
    let core = forge.simple_registry().component("core").version_with("0.1.66", larger);
    let mirror = Mirror::over(&forge).await;
    let plain = core.zip_bytes("0.1.66");
    for path in ["/simple/devsapp/core/zipball/0.1.66", "/official-2x/core/zipball/0.1.66"] {
        let got = mirror.get(path).await;
        is_complete(&got);
        assert_eq!(got.body, plain, "{path}: the registry's own bytes");
    }
    let flat = mirror.get("/v3/packages/official-2x__core/zipball/0.1.66").await;
    is_complete(&flat);
    let (first, ..) = unpacked(&plain).swap_remove(0);
    let (top, _) = first.split_once('/').expect("in a folder");
    assert_eq!(unpacked(&plain), in_folder(&flat.body, top));
    eventually("it is stored", || blobs(mirror.dir()) == 1).await;
}
