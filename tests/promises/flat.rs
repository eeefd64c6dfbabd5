//! The flat view: the same files without the top folder, with its own digest, ETag and ranges, from one upstream request.

use std::{
    fs,
    io::{Cursor, Read, Seek, SeekFrom, Write},
};

use futures_util::future::join_all;
use reqwest::Method;
use srm_mirror::value::ByteSize;

use crate::{
    forge::{Fault, Forge, Lengths, Spec},
    mirror::{Mirror, TestResponse, setup},
    zips::{Drink, PACKAGE, TAG, ZIP, blobs, eventually, evict, forge, sha256, zip_requests, zips},
};

const FLAT: &str = "/devsapp/fc3/flat/v1.0.0";
const MIB: u64 = 1 << 20;

/// One unpacked file: name, content, Unix mode.
type Listing = Vec<(String, Vec<u8>, Option<u32>)>;

fn listing(bytes: &[u8]) -> Listing {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
    let entry = |index| {
        let mut file = zip.by_index(index).expect("an entry");
        let name = file.name().expect("a name").into_owned();
        let mode = file.unix_mode();
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("content with the right CRC");
        (name, content, mode)
    };
    (0..zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip").len()).map(entry).collect()
}

/// The files of the forge's zip, names without the top folder.
fn unpacked(forge: &Forge) -> Listing {
    let without = |(name, content, mode): (String, Vec<u8>, Option<u32>)| {
        let (_, rest) = name.split_once('/').expect("in the folder");
        (!rest.is_empty()).then(|| (rest.to_owned(), content, mode))
    };
    listing(&forge.zip_bytes(PACKAGE, TAG)).into_iter().filter_map(without).collect()
}

fn usual(spec: Spec) -> Spec {
    spec.file("index.js", "exports.handler = () => {};\n".repeat(500))
        .file("src/a/b.txt", "")
        .file("中文.md", "你好")
        .executable("bin/run", "#!/bin/sh\n")
        .symlink("link", "index.js")
        .publish_yaml("Type: Component\nName: fc3\n")
}

/// Expects the headers of a complete zip.
fn is_complete(got: &TestResponse) {
    assert_eq!(got.status, 200, "{:?}", got.body);
    assert_eq!(got.header("etag"), format!("\"{}\"", got.sha256()));
    assert_eq!(got.repr_digest(), srm_mirror::entry::Digest::of(&got.body).0);
    assert_eq!(got.header("content-length"), got.body.len().to_string());
    assert_eq!(got.header("accept-ranges"), "bytes");
    assert_eq!(got.header("content-type"), "application/zip");
    assert_eq!(got.header("content-disposition"), "attachment; filename=\"fc3-v1.0.0.zip\"");
    assert_eq!(got.header("cache-control"), "public, max-age=31536000, immutable");
    assert!(!got.header("age").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flat_view_has_the_same_files_bytes_and_modes_without_the_folder() {
    for change in
        [(|spec| spec) as fn(Spec) -> Spec, Spec::data_descriptors, Spec::stored, Spec::no_commit_comment, |spec| {
            spec.big(3 * MIB)
        }]
    {
        let forge = forge(Lengths::AfterFirst, |spec| change(usual(spec))).await;
        let mirror = Mirror::over(&forge).await;
        let cold = mirror.get(FLAT).await;
        is_complete(&cold);
        assert_eq!(listing(&cold.body), unpacked(&forge));
        assert!(cold.cache_status().contains("fwd=uri-miss"), "{}", cold.cache_status());
        eventually("it is stored", || blobs(mirror.dir()) == 1).await;
        let warm = mirror.get(FLAT).await;
        is_complete(&warm);
        assert_eq!(warm.body, cold.body);
        assert!(warm.cache_status().starts_with("srm-mirror; hit"), "{}", warm.cache_status());
        let plain = mirror.get(ZIP).await;
        assert_eq!(plain.sha256(), sha256(&forge), "the plain zip stays what it is");
        assert_ne!(plain.header("etag"), warm.header("etag"));
        assert_eq!((zip_requests(&forge), blobs(mirror.dir())), (1, 1), "one download, one file");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_without_a_top_folder_is_its_own_flat_view() {
    let forge = forge(Lengths::Always, |spec| usual(spec).no_top_folder()).await;
    let mirror = Mirror::over(&forge).await;
    let got = mirror.get(FLAT).await;
    is_complete(&got);
    assert_eq!(got.sha256(), sha256(&forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_conditions_and_head_are_those_of_the_view() {
    let forge = forge(Lengths::Always, |spec| usual(spec).big(2 * MIB)).await;
    // From disk and from memory.
    for memory in [0, 16] {
        let mirror = setup(&forge)
            .with(|config| {
                config.memory.archives = ByteSize::mib(memory);
                config.memory.archive_max = ByteSize::mib(memory.min(4));
            })
            .start()
            .await;
        let whole = mirror.get(FLAT).await;
        let bytes = &whole.body;
        let etag = whole.header("etag").to_owned();
        let end = bytes.len();
        for (from, to) in [(0, 0), (0, 9), (25, 40), (end / 2, end / 2 + 300_000), (end - 30, end - 1), (1, end - 1)] {
            let part = mirror.get_with(FLAT, &[("range", &format!("bytes={from}-{to}"))]).await;
            assert_eq!(part.status, 206);
            assert_eq!(part.header("content-range"), format!("bytes {from}-{to}/{end}"));
            assert_eq!(part.body, bytes.slice(from..=to), "{from}-{to}");
            assert_eq!(part.header("etag"), etag);
        }
        let mut pieces = Vec::new();
        for from in (0..end).step_by(100_001) {
            let to = (from + 100_000).min(end - 1);
            let headers = [("range", &*format!("bytes={from}-{to}")), ("if-range", &*etag)];
            pieces.extend_from_slice(&mirror.get_with(FLAT, &headers).await.body);
        }
        assert_eq!(&pieces[..], &bytes[..], "the parts make the whole");
        assert_eq!(mirror.get_with(FLAT, &[("range", &format!("bytes={end}-"))]).await.status, 416);
        assert_eq!(mirror.get_with(FLAT, &[("if-none-match", &etag)]).await.status, 304);
        let plain = mirror.get(ZIP).await.header("etag").to_owned();
        let other = mirror.get_with(FLAT, &[("range", "bytes=0-9"), ("if-range", &plain)]).await;
        assert_eq!((other.status, other.body.len()), (200, end), "the plain zip's tag is another's");
        let head = mirror.head(FLAT).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!((head.header("content-length"), head.header("etag")), (&*end.to_string(), &*etag));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_cold_clients_and_a_head_cost_one_upstream_request() {
    let forge = forge(Lengths::Never, |spec| usual(spec).big(2 * MIB)).await;
    let gate = forge.gate(zips(), MIB);
    let mirror = Mirror::over(&forge).await;
    let clients = join_all((0..20).map(|n| {
        let method = if n == 7 { Method::HEAD } else { Method::GET };
        mirror.request(method, FLAT, &[])
    }));
    let (answers, ()) = tokio::join!(clients, async {
        gate.reached().await;
        // A client of the plain zip streams from the same download.
        let mut plain = Drink::of(mirror.open(ZIP).await);
        plain.until(MIB / 2).await;
        gate.open();
        assert_eq!(plain.end().await.expect("whole"), sha256(&forge));
    });
    let answers: Vec<TestResponse> = answers.into_iter().map(|answer| answer.expect("whole")).collect();
    let first = answers[0].sha256();
    for (n, got) in answers.iter().enumerate() {
        assert_eq!((got.status, got.header("etag")), (200, &*format!("\"{first}\"")));
        assert!(n == 7 || got.sha256() == first);
    }
    assert_eq!(answers[7].header("content-length"), answers[0].body.len().to_string(), "HEAD waits for the length");
    assert_eq!(listing(&answers[0].body), unpacked(&forge));
    assert_eq!(zip_requests(&forge), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_an_eviction_and_a_repacked_zip_change_nothing_in_the_files() {
    let forge = forge(Lengths::Always, usual).await;
    let dir = tempfile::tempdir().expect("a directory");
    let start = || setup(&forge).start_in(dir.path());
    let mirror = start().await;
    let first = mirror.get(FLAT).await;
    is_complete(&first);
    eventually("it is stored", || blobs(dir.path()) == 1).await;
    mirror.stop().await;

    let mirror = start().await;
    assert_eq!(mirror.get(FLAT).await.body, first.body, "after a restart");
    assert_eq!(zip_requests(&forge), 1);
    mirror.stop().await;

    evict(dir.path());
    let mirror = start().await;
    assert_eq!(mirror.get(FLAT).await.body, first.body, "fetched again");
    assert_eq!(zip_requests(&forge), 2);
    mirror.stop().await;

    evict(dir.path());
    forge.repo(PACKAGE).repack(TAG);
    let mirror = start().await;
    let repacked = mirror.get(FLAT).await;
    is_complete(&repacked);
    assert_ne!(repacked.body, first.body, "another packing");
    assert_eq!(listing(&repacked.body), listing(&first.body), "of the same files");
    mirror.stop().await;

    evict(dir.path());
    forge.repo(PACKAGE).tag(TAG, |spec| usual(spec).file("index.js", "evil"));
    let mirror = start().await;
    let other = mirror.get(FLAT).await;
    assert_eq!(other.status, 502);
    assert!(other.json()["message"].as_str().expect("a message").contains("pin-mismatch"), "{:?}", other.body);
}

/// Flips a bit in the central directory of the only stored zip.
fn damage(dir: &std::path::Path, digest: &str) {
    let path = dir.join("blobs").join(&digest[..2]).join(digest);
    let bytes = fs::read(&path).expect("the blob");
    let end = bytes.windows(4).rposition(|window| window == b"PK\x05\x06").expect("an end record");
    let central = u32::from_le_bytes(bytes[end + 16..end + 20].try_into().expect("four bytes"));
    let mut file = fs::File::options().write(true).open(&path).expect("the blob");
    let at = u64::from(central) + 50;
    file.seek(SeekFrom::Start(at)).expect("seek");
    file.write_all(&[bytes[at as usize] ^ 1]).expect("write");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_central_directory_is_repaired_or_an_error_and_never_a_broken_zip() {
    let forge = forge(Lengths::Always, usual).await;
    let start = || async {
        let mirror = setup(&forge).with(|config| config.memory.archives = ByteSize(0));
        let mirror = mirror.with(|config| config.memory.archive_max = ByteSize(0)).start().await;
        assert_eq!(mirror.get(ZIP).await.status, 200);
        eventually("it is stored", || blobs(mirror.dir()) == 1).await;
        // The blob was hashed once since the start and is not hashed again.
        assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
        damage(mirror.dir(), &sha256(&forge));
        mirror
    };
    let mirror = start().await;
    let before = zip_requests(&forge);
    let mended = mirror.get(FLAT).await;
    is_complete(&mended);
    assert_eq!(listing(&mended.body), unpacked(&forge));
    assert_eq!(zip_requests(&forge), before + 1, "fetched again");
    drop(mirror);

    let mirror = start().await;
    forge.down().await;
    let got = mirror.get(FLAT).await;
    assert_eq!(got.status, 502, "{:?}", got.headers);
    assert_eq!(got.header("connection"), "close");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_fails_is_an_error_before_any_byte() {
    for fault in [Fault::CutAfter(MIB), Fault::EndShortAfter(2 * MIB), Fault::WrongBytesAt(MIB), Fault::Html200] {
        let forge = forge(Lengths::Never, |spec| usual(spec).big(2 * MIB)).await;
        forge.fault(zips(), fault.clone()).always();
        let mirror = setup(&forge).with(|config| config.archives.resumes = 0).start().await;
        let got = mirror.get(FLAT).await;
        assert_eq!(got.status, 502, "{fault:?}: {:?}", got.headers);
        assert_eq!(
            (got.header("connection"), got.header("content-type").starts_with("application/json")),
            ("close", true)
        );
        assert_eq!(blobs(mirror.dir()), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_space_a_small_flat_view_is_built_in_memory_and_a_large_one_is_an_error() {
    for (lengths, size) in [(Lengths::Always, 7), (Lengths::Never, 7), (Lengths::Always, 40), (Lengths::Never, 40)] {
        let forge = forge(lengths, |spec| usual(spec).stored().big(size * MIB)).await;
        let setup = setup(&forge).with(|config| {
            config.disk.limit = ByteSize::mib(6);
            config.disk.documents = ByteSize::mib(1);
            config.memory.limit = Some(ByteSize::mib(256));
        });
        let mirror = setup.start().await;
        let got = mirror.get(FLAT).await;
        if size == 7 {
            is_complete(&got);
            assert_eq!(listing(&got.body), unpacked(&forge));
            let part = mirror.get_with(FLAT, &[("range", "bytes=100-4000000")]).await;
            assert_eq!((part.status, part.body), (206, got.body.slice(100..=4_000_000)));
        } else {
            assert_eq!((got.status, got.header("connection")), (503, "close"));
            assert!(got.json()["message"].as_str().expect("a message").contains("no room"), "{:?}", got.body);
        }
        assert_eq!(blobs(mirror.dir()), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_commits_and_every_spelling_of_a_version_have_flat_views() {
    let forge = forge(Lengths::Always, usual).await;
    let commit = forge.repo(PACKAGE).commit(TAG);
    forge.repo(PACKAGE).branch("dev", |spec| spec.file("index.js", "dev"));
    let mirror = Mirror::over(&forge).await;
    let tagged = mirror.get(FLAT).await;
    for path in ["1.0.0", "refs/tags/v1.0.0", "refs%2Ftags%2Fv1.0.0", &commit] {
        let got = mirror.get(&format!("/DevsApp/FC3/flat/{path}")).await;
        assert_eq!((got.status, listing(&got.body)), (200, listing(&tagged.body)), "{path}");
    }
    let branch = mirror.get("/devsapp/fc3/flat/dev").await;
    assert_eq!((branch.status, branch.header("cache-control")), (200, "public, max-age=60"));
    assert_eq!(
        listing(&branch.body).iter().find(|(name, ..)| name == "index.js").map(|it| &it.1[..]),
        Some(&b"dev"[..])
    );
    let missing = mirror.get("/devsapp/fc3/flat/9.9.9").await;
    assert_eq!((missing.status, missing.header("connection")), (404, "close"));
}
