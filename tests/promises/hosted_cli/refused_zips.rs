//! Zips that are refused in the second step break the connection.

use super::*;

/// The zips that are refused after they have arrived, each with what the reason says.
fn refused_zips() -> Vec<(Vec<u8>, &'static str)> {
    let good = component("acme-x", "1.0.0");
    let zeroes = vec![0; 3 << 20];
    let many: Vec<String> = (0..200_000).map(|number| format!("f{number}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    vec![
        (component("acme-y", "1.0.0"), "\"acme-y\""),
        (component("acme-x", "2.0.0"), "\"2.0.0\""),
        (component_with("acme-x", "1.0.0", &[(".git/config", b"x")]), ".git"),
        (component_with("acme-x", "1.0.0", &[("../evil.js", b"x")]), "zip"),
        (component_with("acme-x", "1.0.0", &[("zeroes", &zeroes)]), "zip"),
        (component_with("acme-x", "1.0.0", &many), "zip"),
        (good[..good.len() - 10].to_vec(), "zip"),
        (b"<html>".to_vec(), "HTML"),
        (Vec::new(), "empty"),
    ]
}

#[tokio::test]
async fn a_zip_that_is_refused_breaks_the_connection_and_its_publisher_finds_the_reason() {
    let forge = Forge::start().await;
    let host = Host::start_with(&forge, |config: &mut Config| {
        config.host.names = vec!["acme-*".into()];
        config.archives.max_inflated = ByteSize(2 << 20);
        config.access.rules.iter_mut().for_each(|rule| rule.admin = vec!["token:ops".into()]);
    })
    .await;
    let ci = Cli::of(&host, "ci-cli").await;
    let other = Cli::of(&host, "reader-cli").await;
    for (number, (zip, says)) in refused_zips().into_iter().enumerate() {
        let url = ci.reserve("acme-x", "1.0.0").await;
        assert_eq!(upload(&host.mirror.client, &url, zip.clone()).await, None, "{says}");
        let failed = ci.failed("acme-x").await;
        let reason = failed[0]["reason"].as_str().expect("a reason");
        assert!(failed.len() == 1 && reason.contains(says), "{number} {says}: {failed:?}");
        assert_eq!((&failed[0]["failed_version"], &failed[0]["by"]), (&json!("1.0.0"), &json!("token:ci-cli")));
        assert!(other.failed("acme-x").await.is_empty(), "who may not publish sees nothing of it");
        assert_eq!(
            upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await,
            None,
            "spent before the verdict"
        );
        assert!(host.files().is_empty(), "{says}: {:?}", host.files());
    }
    // The zip has another publish.yaml than the form, under the same name and version.
    let publish = publish_yaml("acme-x", "1.0.0").replace("A test.", "Another one.");
    let got = ci.form(&[("publish", &publish), ("readme", "r")]).await;
    let url = got.json()["body"]["url"].as_str().expect("an address").to_owned();
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, None);
    assert!(ci.failed("acme-x").await[0]["reason"].to_string().contains("is not the one that was announced"));
    let status = &host.mirror.admin(host.mirror.dir(), "status", json!({})).await[0];
    assert_eq!(status["failed_publications"][0]["version"], "1.0.0", "{status}");
    let ask = json!({"name": "ops", "scopes": ["read", "admin"], "packages": [], "expires_at": null, "signs": false});
    let ops = host.mirror.admin(host.mirror.dir(), "token/create", ask).await[0]["secret"].clone();
    let page = async |token: &str| text(&host.send(Method::GET, "/-/health", token, Vec::new(), &[]).await);
    let shown = "acme-x 1.0.0, published by token:ci-cli: ";
    assert!(page(ops.as_str().expect("a secret")).await.contains(shown), "an administrator sees it on the page");
    assert!(!page(&host.ci).await.contains("acme-x 1.0.0"), "and no one else");
}

#[tokio::test]
async fn over_http_2_a_refused_zip_resets_its_stream_and_no_other() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let client = plain_client::builder().http2_prior_knowledge().build().expect("a client");
    assert_eq!(client.get(host.mirror.url("/healthz")).send().await.expect("a head").status(), 200);
    let url = ci.reserve("acme-x", "1.0.0").await;
    let slow = client.get(host.mirror.url("/healthz")).send();
    assert_eq!(upload(&client, &url, b"no zip".to_vec()).await, None);
    assert_eq!(slow.await.expect("a head").status(), 200);
    let url = ci.reserve("acme-x", "1.0.0").await;
    assert_eq!(upload(&client, &url, component("acme-x", "1.0.0")).await, Some(201));
}

#[tokio::test]
async fn above_the_limit_a_zip_without_a_length_breaks_off() {
    let forge = Forge::start().await;
    let host = start_with(&forge, |config| config.archives.max_size = ByteSize(1 << 20)).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    assert_eq!(upload(&host.mirror.client, &url, vec![7; 2 << 20]).await, None);
    eventually("nothing is left", async || host.files().is_empty()).await;
    let failed = ci.failed("acme-x").await;
    assert!(failed[0]["reason"].to_string().contains("archives.max_size"), "{failed:?}");
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, Some(201), "it was not used");
}
