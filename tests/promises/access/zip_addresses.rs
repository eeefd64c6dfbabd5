//! Signed addresses of zips.

use super::*;

#[tokio::test]
async fn an_authenticated_answer_has_an_address_that_needs_no_credentials_and_holds_for_that_zip_alone() {
    let _kept = logs::keep();
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let reader = bearer(&token(&mirror, "reader").await);
    for document in [
        "/devsapp/fc3/releases/latest",
        "/simple/devsapp/fc3/releases/latest",
        "/v3/packages/devsapp__fc3/release/latest",
        "/repos/devsapp/fc3/releases/latest",
        "/devsapp/fc3/releases/tags/v1.0.0",
    ] {
        let got = get(&mirror, document, &reader).await;
        assert_eq!((got.header("cache-control"), got.header("etag")), ("private, no-store", ""), "{document}");
        let json = got.json();
        let value = json.get("body").filter(|body| body.is_object()).or(json.get("Response")).unwrap_or(&json);
        let url = value["zipball_url"].as_str().expect("an address");
        let path = url.strip_prefix(&mirror.url("")).expect("an address of this mirror");
        assert!(path.contains("?srm="), "{path}");
        for (method, headers, status) in [
            (Method::GET, vec![], 200),
            (Method::HEAD, vec![], 200),
            (Method::GET, vec![("range", "bytes=0-9".to_owned())], 206),
            // The command line client sends its headers masked.
            (Method::GET, vec![("token", "***".to_owned()), ("sign_code", "***".to_owned())], 200),
        ] {
            assert_eq!(send(&mirror, method, path, &headers).await.status, status, "{path}");
        }
        let query = path.split_once('?').expect("a query").1;
        for other in ["/devsapp/fc3/zipball/main", "/open/pkg/flat/v1.0.0", "/devsapp/fc3/releases"] {
            let expected = if other.starts_with("/open") { 200 } else { 401 };
            assert_eq!(mirror.get(&format!("{other}?{query}")).await.status, expected, "{other}");
        }
        assert!(logs::lines(query).is_empty(), "a signature is in the log");
    }
    let list = get(&mirror, "/simple/devsapp/fc3/releases", &reader).await.json();
    let path = list["Response"][0]["zipball_url"].as_str().expect("an address").replace(&mirror.url(""), "");
    assert_eq!(mirror.get(&path).await.status, 200);
    revoke(&mirror, "reader").await;
    let refused = mirror.get(&path).await;
    assert_eq!(refused.status, 401);
    assert!(String::from_utf8_lossy(&refused.body).contains("expired, or its token was revoked"));
}

#[tokio::test]
async fn the_address_of_a_zip_expires() {
    let forge = forge().await;
    let mirror = closed(&forge).start().await;
    let reader = bearer(&token(&mirror, "reader").await);
    let latest = get(&mirror, "/devsapp/fc3/releases/latest", &reader).await.json();
    let path = latest["zipball_url"].as_str().expect("an address").replace(&mirror.url(""), "");
    assert_eq!(mirror.get(&path).await.status, 200);
    mirror.clock.advance(Duration::from_secs(840));
    assert_eq!(mirror.get(&path).await.status, 200);
    mirror.clock.advance(Duration::from_secs(61));
    assert_eq!(mirror.get(&path).await.status, 401);
}
