//! Lists of a closed mirror.

use super::*;

#[tokio::test]
async fn lists_show_what_their_caller_may_read() {
    let forge = forge().await;
    let registry = forge.registry();
    drop(registry.component("fc3").version("0.1.22"));
    drop(registry.component("acme-web").version("1.0.0"));
    let rules = vec![rule(&["acme-*"], &["token:insider"], false), rule(&["official:*"], &["token:reader"], true)];
    let mirror = with_rules(setup(&forge), rules).start().await;
    let insider = bearer(&token(&mirror, "insider").await);
    let names = |got: TestResponse| {
        let rows = got.json()["body"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let list = "/v3/packages/releases?page=-1";
    assert_eq!(names(mirror.get(list).await), ["fc3"]);
    assert_eq!(names(get(&mirror, list, &insider).await), ["acme-web", "fc3"]);
}

#[tokio::test]
async fn a_list_of_a_closed_mirror_needs_credentials() {
    let forge = forge().await;
    let rules = vec![rule(&["*"], &["*"], false)];
    let mirror = with_rules(setup(&forge), rules).start().await;
    let reader = bearer(&token(&mirror, "reader").await);
    for list in ["/v3/packages/releases", "/v3/common/categories", "/v3/package/user"] {
        assert_eq!(mirror.get(list).await.status, 401, "{list}");
        assert_eq!(get(&mirror, list, &reader).await.status, 200, "{list}");
    }
}
