//! Imports that meet what others have done, and what has no room.

use bytes::Bytes;

use super::*;
use crate::bundles::read;

#[tokio::test(flavor = "multi_thread")]
async fn an_import_names_what_is_damaged_in_the_bucket_and_imports_the_rest() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(3, ZIP_BYTES).await;
    let (_dir, bundle) = exported(&forge, &[&zip(0), &zip(1), &zip(2)]).await;
    bucket.overwrite(&format!("pins/{}.json", key(0)), "{}");
    // Read where the import itself uploads.
    bucket.overwrite(&format!("gc/{}", forge.sha256("load/p1", "v1.0.0")), "{}");
    let section = shared::Config { upload_queue: ByteSize(1), ..bucket.section() };
    let mirror = node(&forge, &bucket).with(|config| config.shared = Some(section)).start().await;
    let ended = import(&forge, &bucket, mirror.dir(), &bundle, &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for number in [0, 1] {
        assert!(ended.out.contains(&format!("damaged  {}: ", key(number))), "{ended:?}");
    }
    assert!(ended.out.contains("\n1 zips ("), "{ended:?}");
    assert_eq!(bucket.names("claims"), [format!("claims/{}.json", key(2))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_other_content_than_was_pinned_while_the_bucket_was_down_pins_nothing_there() {
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let other = self::forge(Lengths::Never, |r| r.file("a.txt", "other")).await;
    let (_dir, bundle) = exported(&other, &[ZIP]).await;
    let parts = read(&bundle);
    let manifest: Value = serde_json::from_slice(&parts[0].1).expect("JSON");
    let bytes = parts.into_iter().find(|(name, _)| name.contains(&sha256(&other))).expect("its zip").1;
    let mirror = node(&forge, &bucket).start().await;
    let (rest, held) = tokio::sync::oneshot::channel();
    let head = format!("{}\n", json!({"force": false, "claim": manifest["zips"][0]}));
    let body = futures_util::stream::once(async move { Ok::<_, std::io::Error>(Bytes::from(head)) });
    let body = futures_util::StreamExt::chain(
        body,
        futures_util::stream::once(async move { held.await.map_err(std::io::Error::other) }),
    );
    let body = reqwest::Body::wrap_stream(body);
    let importing = mirror.control(mirror.dir(), Method::POST, "/-/import/zip", body);
    let pinning = async {
        // It has compared the pins, and waits for the bytes.
        eventually("received", || crate::process::spooled(mirror.dir()) > 0).await;
        bucket.script().down();
        assert_eq!(mirror.get(ZIP).await.sha256(), sha256(&forge));
        bucket.script().up();
        rest.send(Bytes::from(bytes)).expect("awaited");
    };
    let (imported, ()) = tokio::join!(importing, pinning);
    assert_eq!((imported.status, &imported.json()["code"]), (409, &json!("conflict")), "{imported:?}");
    uploaded(&mirror).await;
    let second = node(&forge, &bucket).start().await;
    for node in [&mirror, &second] {
        assert_eq!(node.get(ZIP).await.sha256(), sha256(&forge), "what clients were served counts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_larger_than_the_disk_of_a_node_is_imported_and_all_nodes_serve_it() {
    const COUNT: usize = 16;
    const MIB: u64 = 1 << 20;
    let bucket = TestBucket::start().await;
    let forge = Forge::with_numbered_packages(COUNT as u64, MIB).await;
    let paths: Vec<_> = (0..COUNT).map(zip).collect();
    let (_dir, bundle) = exported(&forge, &paths.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // What waits for its upload is not evicted: a quarter of the disk, and half of it at most.
    let section = shared::Config { upload_queue: ByteSize(3 * MIB), ..bucket.section() };
    let small = |config: &mut srm_mirror::config::Config| {
        config.disk.limit = ByteSize(12 * MIB);
        config.shared = Some(section.clone());
    };
    let mirror = node(&forge, &bucket).with(small).start().await;
    let ended = import(&forge, &bucket, mirror.dir(), &bundle, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    eventually("all is uploaded", || mirror.cache.uploads().archives == 0).await;
    assert!(blobs(mirror.dir()) < COUNT);
    forge.down().await;
    let second = node(&forge, &bucket).with(small).start().await;
    for node in [&mirror, &second] {
        for (number, path) in paths.iter().enumerate() {
            let got = node.get(path).await;
            let sha256 = forge.sha256(&format!("load/p{number}"), "v1.0.0");
            assert_eq!((got.status, got.sha256()), (200, sha256), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_that_waits_when_an_import_ends_is_uploaded_by_the_next_mirror_on_the_directory() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::with_numbered_packages(1, ZIP_BYTES).await;
    let (_dir, bundle) = exported(&forge, &[&zip(0)]).await;
    bucket.fault(Method::PUT, "blobs", BucketFault::Status(403));
    let dir = tempfile::tempdir().expect("a directory");
    let ended = import(&forge, &bucket, dir.path(), &bundle, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((bucket.names("pins").len(), bucket.names("claims").len()), (1, 0));
    bucket.script().clear_faults();
    let _mirror = node(&forge, &bucket).start_in(dir.path()).await;
    eventually("uploaded", || bucket.names("claims").len() == 1).await;
}
