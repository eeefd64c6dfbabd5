//! Yanked and deleted versions.

use super::*;

#[tokio::test]
async fn a_version_is_yanked_over_the_network_by_those_who_may_delete_it_and_by_no_one_else() {
    let forge = Forge::start().await;
    let host = Host::start(&forge).await;
    assert_eq!(host.put("acme-x", "1.0.0", component("acme-x", "1.0.0")).await.status, 201);
    let json_type = [("content-type", "application/json")];
    let ask = async |route: &str, token: &str, package: &str| {
        let body = json!({"package": package, "version": "1.0.0"}).to_string().into_bytes();
        let got = host.send(Method::POST, &format!("/-/hosted/{route}"), token, body, &json_type).await;
        (got.status, String::from_utf8_lossy(&got.body).into_owned())
    };
    assert_eq!(ask("yank", "srmt_none", "acme-x").await.0, 401);
    let (status, refused) = ask("yank", &host.reader, "acme-x").await;
    let (_, unknown) = ask("yank", &host.ci, "acme-none").await;
    assert_eq!((status, refused), (400, unknown.replace("acme-none", "acme-x")), "a reader learns what is published");
    assert_eq!(tags(&host.get("/acme-x/releases").await.json()), ["1.0.0"]);
    assert_eq!(ask("yank", &host.ci, "acme-x").await.0, 200);
    assert!(tags(&host.get("/acme-x/releases").await.json()).is_empty());
    assert_eq!(ask("unyank", &host.ci, "acme-x").await.0, 200);
    assert_eq!(tags(&host.get("/acme-x/releases").await.json()), ["1.0.0"]);
    let stats = host.send(Method::POST, "/-/stats", &host.ci, b"{}".to_vec(), &json_type).await;
    assert_eq!(stats.status, 404, "the rest of administration stays closed");
}

#[tokio::test]
async fn an_administrator_may_yank_what_others_publish_and_published_packages_are_no_upstream_of_requests() {
    let forge = Forge::start().await;
    let host = Host::start_with(&forge, |config| {
        config.access.remote_admin = true;
        config.access.rules.iter_mut().for_each(|rule| rule.admin = vec!["token:ops".into()]);
    });
    let host = host.await;
    let ask = json!({"name": "ops", "scopes": ["read", "admin"], "packages": [], "expires_at": null, "signs": false});
    let ops = host.mirror.admin(host.mirror.dir(), "token/create", ask).await[0]["secret"].clone();
    assert_eq!(host.put("acme-x", "1.0.0", component("acme-x", "1.0.0")).await.status, 201);
    let body = json!({"package": "acme-x", "version": "1.0.0"}).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let token = ops.as_str().expect("a secret");
    let yanked = host.send(Method::POST, "/-/hosted/yank", token, body, &headers).await;
    assert_eq!((yanked.status, &yanked.json()["yanked"]), (200, &json!(true)), "{:?}", yanked.body);
    let status = host.mirror.admin(host.mirror.dir(), "status", json!({})).await;
    let names: Vec<_> = status[0]["upstreams"].as_array().expect("upstreams").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["gitee", "github", "official", "official-2x"]);
}

#[tokio::test]
async fn a_deleted_version_is_gone_for_ever_and_a_yanked_one_is_found_by_its_name_alone() {
    let forge = Forge::start().await;
    let host = Host::start(&forge).await;
    for version in ["1.0.0", "1.1.0"] {
        assert_eq!(host.put("acme-x", version, component("acme-x", version)).await.status, 201);
    }
    let ask = json!({"package": "acme-x", "version": "1.1.0"});
    host.mirror.admin(host.mirror.dir(), "hosted/yank", ask.clone()).await;
    assert_eq!(tags(&host.get("/acme-x/releases").await.json()), ["1.0.0"]);
    assert_eq!(host.get("/acme-x/releases/latest").await.json()["tag_name"], "1.0.0");
    assert_eq!(host.get("/acme-x/flat/1.1.0").await.status, 200);
    host.mirror.admin(host.mirror.dir(), "hosted/unyank", ask).await;
    assert_eq!(host.get("/acme-x/releases/latest").await.json()["tag_name"], "1.1.0");

    for _ in 0..2 {
        let deleted = host.send(Method::DELETE, "/acme-x/zipball/1.1.0", &host.ci, Vec::new(), &[]).await;
        assert_eq!((deleted.status, deleted.json()), (200, json!({"package": "acme-x", "version": "1.1.0"})));
    }
    assert_eq!(host.get("/acme-x/flat/1.1.0").await.status, 404);
    assert_eq!(tags(&host.get("/acme-x/releases").await.json()), ["1.0.0"]);
    let again = host.put("acme-x", "1.1.0", component("acme-x", "1.1.0")).await;
    assert_eq!((again.status, &again.json()["code"]), (409, &json!("version-deleted")), "{:?}", again.body);
    let unknown = host.send(Method::DELETE, "/acme-x/zipball/7.0.0", &host.ci, Vec::new(), &[]).await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (404, &json!("no-version")));
    // The last version deleted: the name stays this mirror's, and no upstream is asked.
    host.send(Method::DELETE, "/acme-x/zipball/1.0.0", &host.ci, Vec::new(), &[]).await;
    let asked = forge.count(|_| true);
    assert_eq!(host.get("/v3/packages/acme-x/release/latest").await.status, 404);
    assert_eq!(forge.count(|_| true), asked);
}
