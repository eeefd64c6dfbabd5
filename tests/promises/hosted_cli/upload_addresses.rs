//! What an upload address is good for, and for how long.

use super::*;

#[tokio::test]
async fn an_upload_address_holds_for_the_present_reservation_of_its_version_until_it_expires() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let client = &host.mirror.client;
    let zip = component("acme-x", "1.0.0");
    let superseded = ci.reserve("acme-x", "1.0.0").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    let (path, query) = url.split_once('?').expect("a query");
    let parts: Vec<&str> = query.split('.').collect();
    let swapped = |index: usize, value: &str| {
        let mut parts = parts.clone();
        parts[index] = value;
        format!("{path}?{}", parts.join("."))
    };
    for (what, url) in [
        ("superseded", superseded),
        ("another version", url.replace("/1.0.0?", "/1.0.1?")),
        ("another package", url.replace("/acme-x/", "/acme-y/")),
        ("without a code", path.to_owned()),
        ("a later end", swapped(2, "7fffffff")),
        ("a higher limit", swapped(3, "ffffffffff")),
        ("another reservation", swapped(4, "aaaaaaaaaaaaaaaaaaaa")),
        ("another code", swapped(parts.len() - 1, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
    ] {
        assert_eq!(upload(client, &url, zip.clone()).await, None, "{what}");
        assert!(host.files().is_empty(), "{what}: {:?}", host.files());
    }
    assert_eq!(ci.failed("acme-x").await, Vec::<Value>::new());
    assert_eq!(host.mirror.get(url.strip_prefix(&host.mirror.url("")).expect("its own")).await.status, 404);
    host.mirror.clock.advance(Duration::from_secs(601));
    assert_eq!(upload(client, &url, zip.clone()).await, None, "expired");
    let failed = ci.failed("acme-x").await;
    assert!(failed[0]["reason"].as_str().is_some_and(|reason| reason.contains("expired")), "{failed:?}");
    let url = ci.reserve("acme-x", "1.0.0").await;
    assert_eq!(upload(client, &url, zip.clone()).await, Some(201));
    host.mirror.clock.advance(Duration::from_secs(601));
    assert_eq!(upload(client, &url, zip).await, None, "expired, and used");
    assert_eq!(ci.failed("acme-x").await, Vec::<Value>::new(), "a version that is there did not fail");
}

#[tokio::test]
async fn a_cut_upload_does_not_use_its_address_and_a_second_one_beside_it_is_refused() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    let zip = component("acme-x", "1.0.0");
    let target = url.strip_prefix(&host.mirror.url("")).expect("its own");
    let mut stream = TcpStream::connect(host.mirror.address).await.expect("connects");
    let head = format!("PUT {target} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", host.mirror.address);
    stream.write_all(head.as_bytes()).await.expect("written");
    stream.write_all(b"64\r\n").await.expect("written");
    stream.write_all(&zip[..100]).await.expect("written");
    eventually("the upload is under way", async || host.files().len() == 1).await;
    assert_eq!(upload(&host.mirror.client, &url, zip.clone()).await, None, "one upload at a time");
    drop(stream);
    eventually("nothing is left", async || host.files().is_empty()).await;
    assert_eq!(upload(&host.mirror.client, &url, zip).await, Some(201));
}

#[tokio::test]
async fn the_rights_of_an_account_are_looked_up_again_when_its_address_is_used() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    host.mirror.admin(host.mirror.dir(), "token/revoke", json!({"name": "ci-cli"})).await;
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, None);
    assert!(host.files().is_empty());
    let again = Cli::of(&host, "ci-cli").await;
    assert_eq!(
        upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await,
        None,
        "another token of that name"
    );
    drop(again);
}
