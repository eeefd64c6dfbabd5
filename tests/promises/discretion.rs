//! No client header goes upstream, and no text, address or token of the upstream reaches a client.

use crate::{
    forge::{Fault, Forge, Host, Match},
    logs,
    mirror::setup,
};

const TOKEN: &str = "ghp_DISCRETIONTOKEN0123456789";

#[tokio::test]
async fn no_header_of_a_client_reaches_the_forge() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r).branch("dev", |b| b);
    forge.gitee_repo("devsapp/fc3").release("v1.0.0", |r| r);
    let mirror = setup(&forge).start().await;
    let sent = [
        ("authorization", "Bearer CLIENT"),
        ("token", "CLIENT"),
        ("sign_code", "CLIENT"),
        ("nonce", "CLIENT"),
        ("timestamp", "CLIENT"),
        ("cookie", "a=CLIENT"),
        ("user-agent", "CLIENT/1.0"),
        ("accept", "text/x-CLIENT"),
        ("accept-language", "CLIENT"),
        ("range", "bytes=5-9"),
        ("if-none-match", "\"CLIENT\""),
        ("if-range", "\"CLIENT\""),
        ("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT"),
        ("x-forwarded-for", "192.0.2.77"),
        ("x-forwarded-proto", "CLIENT"),
        ("forwarded", "for=192.0.2.77"),
        ("x-github-otp", "CLIENT"),
        ("proxy-authorization", "Basic CLIENT"),
        ("referer", "http://CLIENT.example/"),
        ("via", "1.1 CLIENT"),
    ];
    for path in ["releases", "releases/latest", "zipball/v1.0.0", "zipball/dev", "metadata/v1.0.0"] {
        for front in ["/devsapp/fc3", "/gitee/devsapp/fc3", "/repos/devsapp/fc3"] {
            let got = mirror.get_with(&format!("{front}/{path}?client=CLIENT&access_token=CLIENT"), &sent).await;
            assert!(matches!(got.status, 200 | 206 | 404), "{front}/{path}: {}", got.status);
        }
    }
    let seen = forge.requests();
    assert!(seen.len() > 6);
    for seen in seen {
        assert_eq!(seen.method, "GET");
        let all = format!("{} {:?}", seen.path_and_query, seen.headers).to_lowercase();
        for never in ["client", "192.0.2.77", "1994", "bytes=5-9"] {
            assert!(!all.contains(never), "{never} reached the forge: {all}");
        }
        for name in
            ["authorization", "cookie", "range", "if-range", "referer", "forwarded", "x-forwarded-for", "if-none-match"]
        {
            assert!(!seen.headers.contains_key(name), "{name}");
        }
    }
}

#[tokio::test]
async fn no_text_address_or_token_of_the_upstream_is_in_an_error_or_in_the_log() {
    let _kept = logs::keep();
    let forge = Forge::start().await;
    forge.accept_token(TOKEN);
    for name in ["list", "zip", "hop", "throttled", "unknown", "fine"] {
        forge.repo(&format!("discreet/{name}")).release("v1.0.0", |r| r);
    }
    let mirror = setup(&forge).token("github", TOKEN).start().await;
    let secret = "UPSTREAMWORDS at 203.0.113.9";
    let body = format!(r#"{{"message":"{secret}","documentation_url":"https://docs.example/{TOKEN}"}}"#);
    let json = [("content-type", "application/json")];
    let elsewhere = format!("http://hop.invalid/?token={TOKEN}");
    let at = |name: &str| Match::path_contains(&format!("/discreet/{name}/"));
    forge.fault(at("list"), Fault::status(500, &json, &body)).always();
    forge.fault(at("zip").host(Host::Archive), Fault::status(200, &[("content-type", "text/html")], &body)).always();
    forge.fault(at("hop").containing("zipball"), Fault::status(302, &[("location", &elsewhere)], "")).always();
    forge.fault(at("unknown"), Fault::status(403, &json, &body)).always();
    for (path, status) in [
        ("/discreet/list/releases", 502),
        ("/discreet/list/releases/latest", 502),
        ("/discreet/zip/zipball/v1.0.0", 502),
        ("/discreet/hop/zipball/v1.0.0", 502),
        ("/discreet/unknown/releases", 502),
        ("/discreet/fine/zipball/v1.0.0", 200),
        ("/discreet/missing/releases", 404),
    ] {
        let got = mirror.get(path).await;
        assert_eq!(got.status, status, "{path}: {:?}", got.body);
        let headers = format!("{:?}", got.headers);
        let shown = if status == 200 { headers } else { headers + &String::from_utf8_lossy(&got.body) };
        for never in ["UPSTREAMWORDS", "203.0.113.9", TOKEN, "hop.invalid", "docs.example", "ARCHIVETOKEN"] {
            assert!(!shown.contains(never), "{path} shows {never}: {shown}");
        }
        for address in [forge.github_api().replace("http://", ""), forge.archive_host()] {
            assert!(!shown.contains(&address), "{path} shows {address}: {shown}");
        }
    }
    forge.fault(at("throttled"), Fault::status(403, &[("x-ratelimit-remaining", "0")], &body)).always();
    let throttled = mirror.get("/discreet/throttled/releases").await;
    assert!(throttled.status == 503 && !String::from_utf8_lossy(&throttled.body).contains("UPSTREAMWORDS"));
    drop(mirror);

    assert!(!logs::lines("discreet/list").is_empty(), "the log is read");
    for never in ["UPSTREAMWORDS", "203.0.113.9", TOKEN, "hop.invalid", "docs.example"] {
        let ours: Vec<_> =
            logs::lines(never).into_iter().filter(|line| line.contains("\"target\":\"srm_mirror")).collect();
        assert!(ours.is_empty(), "the log shows {never}: {ours:?}");
    }
}

#[tokio::test]
async fn each_request_is_one_access_event_with_its_fields() {
    let _kept = logs::keep();
    let forge = Forge::start().await;
    forge.repo("logged/once").release("v1.0.0", |r| r);
    let mirror = setup(&forge).start().await;
    for (path, status, cache, version, route) in [
        ("/logged/once/zipball/1.0.0", 200, "miss", Some("1.0.0"), "zip"),
        ("/logged/once/zipball/1.0.0", 200, "hit", Some("1.0.0"), "zip"),
        ("/logged/once/zipball/1.0.0", 200, "hit", Some("1.0.0"), "zip"),
        ("/logged/once/zipball/1.0.0", 200, "hit", Some("1.0.0"), "zip"),
        ("/logged/once/zipball/1.0.0", 200, "hit", Some("1.0.0"), "zip"),
        ("/logged/once/zipball/1.0.0", 200, "hit", Some("1.0.0"), "zip"),
        ("/logged/once/zipball/1.0.0", 200, "hit", Some("1.0.0"), "zip"),
        ("/logged/once/releases", 200, "hit", None, "releases"),
        ("/logged/once/releases/tags/9.0.0", 404, "error", Some("9.0.0"), "release"),
    ] {
        let got = mirror.get_with(path, &[("user-agent", "logged-once/1")]).await;
        assert_eq!(got.status, status, "{path}");
        let id = got.header("x-request-id").to_owned();
        assert!(!id.is_empty());
        // The event is written after the body's end, which the client may see first.
        let events = || -> Vec<String> {
            logs::lines(&id).into_iter().filter(|line| line.contains(srm_mirror::observe::ACCESS_TARGET)).collect()
        };
        crate::eventually::eventually("an access event", async || !events().is_empty()).await;
        let found = events();
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        let event: serde_json::Value = serde_json::from_str(&found[0]).expect("JSON");
        let fields = &event["fields"];
        for (name, wanted) in [
            ("request_id", serde_json::json!(id)),
            ("method", "GET".into()),
            ("host", mirror.address.to_string().into()),
            ("path", path.into()),
            ("protocol", "HTTP/1.1".into()),
            ("tls", false.into()),
            ("client", "127.0.0.1".into()),
            ("route", route.into()),
            ("user_agent", "logged-once/1".into()),
            ("dialect", "srm".into()),
            ("upstream", "github".into()),
            ("package", "logged/once".into()),
            ("status", status.into()),
            ("cache", cache.into()),
            ("cache_status", got.cache_status().into()),
            ("bytes", got.body.len().into()),
            ("outcome", "complete".into()),
        ] {
            assert_eq!(fields[name], wanted, "{path}: {name} in {fields}");
        }
        assert_eq!(fields.get("version").and_then(|v| v.as_str()), version, "{path}: {fields}");
        assert!(fields["duration_ms"].is_u64() && fields["head_ms"].is_u64(), "{path}: {fields}");
        assert!(fields["peer"].as_str().expect("text").starts_with("127.0.0.1:"), "{path}: {fields}");
        let code = fields.get("code").and_then(|code| code.as_str());
        let reason = fields.get("reason").and_then(|reason| reason.as_str());
        if status == 200 {
            assert_eq!((code, reason), (None, None), "{path}: {fields}");
        } else {
            let message = got.json()["message"].as_str().expect("text").to_owned();
            assert_eq!((code, reason), (Some("no-release"), Some(&*message)), "{path}: {fields}");
        }
    }
}

/// The fields of the access event with this request id.
async fn access_fields(id: &str) -> serde_json::Value {
    let event = || logs::lines(id).into_iter().find(|line| line.contains(srm_mirror::observe::ACCESS_TARGET));
    crate::eventually::eventually("an access event", async || event().is_some()).await;
    let event: serde_json::Value = serde_json::from_str(&event().expect("an event")).expect("JSON");
    event["fields"].clone()
}

#[tokio::test]
async fn the_client_and_the_request_id_of_a_trusted_proxy_are_in_the_log() {
    let _kept = logs::keep();
    let forge = Forge::start().await;
    forge.repo("behind/proxy").release("v1.0.0", |r| r);
    let path = "/behind/proxy/releases";
    let headers = [("x-forwarded-for", "198.51.100.1, 2001:db8:1:2:3::4"), ("x-request-id", "edge-7f3a.1")];
    let mirror = setup(&forge)
        .with(|config| {
            config.server.trusted_proxies = vec!["127.0.0.1".parse().expect("a network")];
            config.server.client_header = Some("x-forwarded-for".into());
        })
        .start()
        .await;
    for _ in 0..2 {
        assert_eq!(mirror.get_with(path, &headers).await.header("x-request-id"), "edge-7f3a.1");
    }
    let fields = access_fields("edge-7f3a.1").await;
    assert_eq!(fields["client"], "2001:db8:1:2:3::4", "{fields}");
    assert!(fields["peer"].as_str().expect("text").starts_with("127.0.0.1:"), "{fields}");
    let hostile = [("x-request-id", "evil id\u{9}with spaces")];
    assert_ne!(mirror.get_with(path, &hostile).await.header("x-request-id"), hostile[0].1);

    let mirror = setup(&forge).start().await;
    let got = mirror.get_with(path, &headers).await;
    assert_ne!(got.header("x-request-id"), "edge-7f3a.1", "any client could choose the id of another's request");
    assert_eq!(access_fields(got.header("x-request-id")).await["client"], "127.0.0.1");
}
