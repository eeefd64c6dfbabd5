//! The routes respond, the second request needs no upstream, and stored content survives a restart.

use crate::{forge::Forge, mirror::setup};

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge
        .repo("devsapp/fc3")
        .release("v1.0.0", |r| r.file("index.js", b"1").publish_yaml("Type: Component\nName: fc3\n"));
    forge
}

#[tokio::test]
async fn the_second_request_for_a_zip_needs_no_upstream_also_after_a_restart() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    let first = mirror.get("/devsapp/fc3/zipball/1.0.0").await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    assert_eq!(first.sha256(), forge.sha256("devsapp/fc3", "v1.0.0"));
    let asked = forge.requests().len();

    let second = mirror.get("/devsapp/fc3/zipball/1.0.0").await;
    assert_eq!((second.status, second.sha256()), (200, first.sha256()));
    assert!(second.cache_status().starts_with("srm-mirror; hit"), "{}", second.cache_status());
    assert_eq!(second.header("etag"), format!("\"{}\"", second.sha256()));
    assert_eq!(forge.requests().len(), asked);
    mirror.stop().await;

    forge.down().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    let third = mirror.get("/devsapp/fc3/zipball/v1.0.0").await;
    assert_eq!((third.status, third.sha256()), (200, first.sha256()));
    let list = mirror.get("/devsapp/fc3/releases").await;
    assert_eq!(list.json()[0]["tag_name"], "v1.0.0");
}
