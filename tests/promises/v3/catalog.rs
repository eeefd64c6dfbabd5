//! The catalog of the v3 dialect.

use super::*;

#[tokio::test]
async fn the_catalog_has_the_known_packages_and_no_others() {
    let forge = forge().await;
    let mirror = usual(&forge).start().await;
    assert_eq!(listed(&mirror, "").await, ["start"], "an alias is known at once");
    for path in ["/fc3/zipball/v1.0.0", "/acme/tool/flat/2.0.0", "/fc3/zipball/v1.1.0"] {
        assert_eq!(mirror.get(path).await.status, 200);
    }
    let asked = forge.requests().len();
    mirror.clock.advance(Duration::from_secs(31));
    insta::assert_snapshot!("v3_list", golden(&mirror.get_with("/v3/packages/releases?page=1", &HOST).await));
    assert_eq!(listed(&mirror, "?search=third%20EDITION").await, ["fc3"], "in the description, in any case");
    assert_eq!(listed(&mirror, "?search=%E5%87%BD%E6%95%B0").await, ["fc3"]);
    assert_eq!(listed(&mirror, "?search=TOOL&page=1").await, ["acme__tool"]);
    assert_eq!(listed(&mirror, "?search=nothing").await, [""; 0]);
    assert_eq!(listed(&mirror, "?page=2&per_page=2").await, ["start"]);
    assert_eq!(listed(&mirror, "?page=3&per_page=2").await, [""; 0]);
    assert_eq!(forge.requests().len(), asked, "a list needs no upstream request");

    assert_eq!(mirror.get("/gitee/devsapp/start-fc/zipball/0.1.0").await.status, 200);
    mirror.clock.advance(Duration::from_secs(31));
    let list = value_of_client(&mirror.get("/v3/packages/releases?search=start").await).expect("a list");
    let start = json!([{
        "type": "Component", "name": "start", "description": "A start", "category": {"name": "Basics"},
        "tags": ["FC", "http"], "platform": 3
    }]);
    assert_eq!(list, start, "an alias has the facts of its package once a zip was seen");
}

#[tokio::test]
async fn the_names_in_the_catalog_resolve_and_survive_a_restart() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = usual(&forge).start_in(dir.path()).await;
    for path in ["/fc3/zipball/v1.0.0", "/acme/tool/zipball/2.0.0", "/gitee/devsapp/start-fc/zipball/0.1.0"] {
        assert_eq!(mirror.get(path).await.status, 200);
    }
    let names = listed(&mirror, "").await;
    assert_eq!(names, ["acme__tool", "fc3", "start"]);
    for name in &names {
        load(&mirror, &format!("/v3/packages/{name}/release/latest")).await;
    }
    mirror.stop().await;
    forge.down().await;
    let mirror = usual(&forge).start_in(dir.path()).await;
    assert_eq!(listed(&mirror, "").await, names);
}

#[tokio::test]
async fn a_refused_package_is_absent_from_the_catalog() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let token = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    forge.accept_token(token);
    forge.repo("acme/secret").private().release("v1.0.0", |r| r.publish_yaml("Type: Component\nDescription: hush\n"));
    let open = usual(&forge).token("github", token).with(|config| config.packages.private = Private::Serve);
    let mirror = open.start_in(dir.path()).await;
    for path in ["/acme/secret/zipball/v1.0.0", "/acme/tool/zipball/2.0.0", "/fc3/zipball/v1.0.0"] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    assert_eq!(listed(&mirror, "").await, ["acme__secret", "acme__tool", "fc3", "start"]);
    mirror.stop().await;

    let closed = || usual(&forge).token("github", token);
    let mirror = closed().start_in(dir.path()).await;
    assert_eq!(listed(&mirror, "").await, ["acme__tool", "fc3", "start"], "private ones are looked up");
    assert_eq!(listed(&mirror, "?search=hush").await, [""; 0]);
    mirror.stop().await;

    let mirror = closed().with(|config| config.packages.private_allow = vec!["acme/secret".into()]);
    let mirror = mirror.start_in(dir.path()).await;
    assert_eq!(listed(&mirror, "?search=hush").await, ["acme__secret"]);
    mirror.stop().await;

    let mirror = closed().with(|config| config.packages.deny = vec!["acme/*".into()]).start_in(dir.path()).await;
    assert_eq!(listed(&mirror, "").await, ["fc3", "start"]);
    mirror.stop().await;
    let mirror = closed().with(|config| config.packages.allow = vec!["acme/tool".into()]).start_in(dir.path()).await;
    assert_eq!(listed(&mirror, "").await, ["acme__tool"]);
    mirror.stop().await;

    // Their visibility is unknown: the catalog omits them.
    drop(forge.repo("acme/unknown").private());
    forge.down().await;
    let mirror = closed().with(|config| {
        config.names.aliases.insert("unknown".into(), "acme/unknown".into());
    });
    let names = listed(&mirror.start_in(dir.path()).await, "").await;
    assert!(!names.iter().any(|name| name.contains("unknown") || name.contains("secret")), "{names:?}");
}
