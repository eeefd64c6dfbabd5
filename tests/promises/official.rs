//! Packages of registries, v3 and simple: documents, zips, absence and trouble.

use crate::{forge::Forge, mirror::Mirror};

#[tokio::test]
async fn a_package_of_the_official_registry_is_served_by_its_plain_name() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("0.1.21").version("0.1.22");
    let mirror = Mirror::over(&forge).await;
    let latest = mirror.get("/official/fc3/releases/latest").await;
    assert_eq!((latest.status, latest.json()["tag_name"].as_str()), (200, Some("0.1.22")));
    assert_eq!(latest.json()["zipball_url"], mirror.url("/official/fc3/zipball/0.1.22"));
    let list = mirror.get("/official/fc3/releases").await.json();
    let tags: Vec<_> = list.as_array().expect("an array").iter().map(|release| release["tag_name"].as_str()).collect();
    assert_eq!(tags, [Some("0.1.22"), Some("0.1.21")]);
    forge.clear_log();
    let flat = mirror.get("/official/fc3/flat/0.1.22").await;
    assert_eq!((flat.status, flat.sha256()), (200, fc3.sha256("0.1.22")), "a v3 registry's zips come flat");
    assert_eq!(forge.requests().len(), 2, "the registry and its storage");
    let zip = mirror.get("/official/fc3/zipball/0.1.22").await;
    assert_eq!(zip.status, 200);
    assert_eq!(forge.requests().len(), 2);
}

#[tokio::test]
async fn a_package_of_the_simple_registry_is_one_package_with_and_without_its_provider() {
    let forge = Forge::start().await;
    let core = forge.simple_registry().component("core").version("0.1.66");
    let mirror = Mirror::over(&forge).await;
    let first = mirror.get("/official-2x/devsapp/core/zipball/0.1.66").await;
    assert_eq!((first.status, first.sha256()), (200, core.sha256("0.1.66")));
    forge.clear_log();
    let second = mirror.get("/official-2x/core/zipball/0.1.66").await;
    assert_eq!((second.status, second.sha256()), (200, core.sha256("0.1.66")));
    assert_eq!(forge.requests().len(), 0, "there is one key");
}
