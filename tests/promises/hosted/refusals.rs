//! What is not published: without the right, or because it is no package.

use super::*;

#[tokio::test]
async fn only_who_has_the_right_publishes_and_reads() {
    let forge = Forge::start().await;
    let host = Host::start(&forge).await;
    let zip = component("secret-x", "1.0.0");
    let path = "/secret-x/zipball/1.0.0";
    let anonymous = host.mirror.client.put(host.mirror.url(path)).body(zip.clone()).send().await.expect("a head");
    assert_eq!(anonymous.status(), 401);
    assert_eq!(host.send(Method::PUT, path, "wrong", zip.clone(), &[]).await.status, 401);
    // A caller who may not read a name is answered as if it did not exist; one who may read it gets the reason.
    assert_eq!(host.send(Method::PUT, path, &host.reader, zip.clone(), &[]).await.status, 404);
    let refused =
        host.send(Method::PUT, "/acme-x/zipball/1.0.0", &host.reader, component("acme-x", "1.0.0"), &[]).await;
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("forbidden")));
    assert!(host.files().is_empty());

    assert_eq!(host.put("secret-x", "1.0.0", zip).await.status, 201);
    for path in ["/secret-x/flat/1.0.0", "/v3/packages/secret-x/release/latest", "/hosted/secret-x/releases"] {
        assert_eq!(host.get_as(&host.ci, path).await.status, 200, "{path}");
        assert_eq!(host.get(path).await.status, 404, "{path}");
        assert_eq!(host.mirror.get(path).await.status, 401, "{path}");
    }
    let catalog = host.get("/v3/packages/releases?page=-1").await;
    assert!(!String::from_utf8_lossy(&catalog.body).contains("secret-x"));
    assert_eq!(host.send(Method::DELETE, path, &host.reader, Vec::new(), &[]).await.status, 404);
    assert_eq!(host.get_as(&host.ci, "/secret-x/flat/1.0.0").await.status, 200);
}

#[tokio::test]
async fn what_is_no_package_is_refused_with_every_finding_and_leaves_nothing() {
    let forge = Forge::start().await;
    let host = Host::start_with(&forge, |config| {
        config.host.names = vec!["acme-*".into()];
        config.archives.max_size = ByteSize(1 << 20);
        config.archives.max_inflated = ByteSize(2 << 20);
        config.archives.max_entries = 50;
    })
    .await;
    let good = component("acme-x", "1.0.0");
    let zeroes = vec![0; 3 << 20];
    let many: Vec<String> = (0..60).map(|number| format!("f{number}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let unprocessable = [
        ("another name", component("acme-y", "1.0.0"), "acme-y"),
        ("another version", component("acme-x", "2.0.0"), "2.0.0"),
        ("git", component_with("acme-x", "1.0.0", &[(".git/config", b"x")]), ".git"),
        ("leaves its folder", component_with("acme-x", "1.0.0", &[("../evil.js", b"x")]), "zip"),
        ("a bomb", component_with("acme-x", "1.0.0", &[("zeroes", &zeroes)]), "zip"),
        ("many entries", component_with("acme-x", "1.0.0", &many), "zip"),
        ("cut", good[..good.len() - 10].to_vec(), "zip"),
        ("no zip", b"<html>".to_vec(), "HTML"),
        ("empty", Vec::new(), "empty"),
    ];
    for (what, zip, says) in unprocessable {
        let got = host.put("acme-x", "1.0.0", zip).await;
        assert_eq!((got.status, &got.json()["code"]), (422, &json!("not-conforming")), "{what}: {:?}", got.body);
        assert!(String::from_utf8_lossy(&got.body).contains(says), "{what}: {:?}", got.body);
    }
    let findings = host.put("acme-x", "1.0.0", component("acme-y", "2.0.0")).await.json()["findings"].clone();
    let rules: Vec<&Value> = findings.as_array().expect("findings").iter().map(|finding| &finding["rule"]).collect();
    assert_eq!(rules, [&json!("name-differs"), &json!("version-differs")], "{findings}");
    for version in ["1.0", "v1.0.0", "1.0.0+build", "latest"] {
        assert_eq!(host.put("acme-x", version, good.clone()).await.status, 422, "{version}");
    }
    let noise = vec![7; 2 << 20];
    let large = host.put("acme-x", "1.0.0", noise.clone()).await;
    assert_eq!((large.status, &large.json()["code"]), (413, &json!("too-large")));
    // Without a length, the limit counts what arrives.
    let chunks = futures_util::stream::iter(
        noise.chunks(64 << 10).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let url = host.mirror.url("/acme-x/zipball/1.0.0");
    let request = host.mirror.client.put(url).bearer_auth(&host.ci).body(reqwest::Body::wrap_stream(chunks));
    assert!(request.send().await.is_ok_and(|response| response.status() == 413));
    let wrong = format!("sha-256=:{}:", BASE64_STANDARD.encode(Digest::of(b"other").0));
    let path = "/acme-x/zipball/1.0.0";
    let got = host.send(Method::PUT, path, &host.ci, good.clone(), &[("content-digest", &wrong)]).await;
    assert_eq!(got.status, 422, "{:?}", got.body);
    for name in ["releases", "v3", "github", "hosted", ".x", "a__b"] {
        let got = host.put(name, "1.0.0", component(name, "1.0.0")).await;
        assert!([404, 405, 409].contains(&got.status), "{name}: {} {:?}", got.status, got.body);
    }
    assert!(host.files().is_empty(), "{:?}", host.files());
    let right = format!("sha-256=:{}:", BASE64_STANDARD.encode(Digest::of(&good).0));
    assert_eq!(host.send(Method::PUT, path, &host.ci, good, &[("content-digest", &right)]).await.status, 201);
}

#[tokio::test]
async fn a_refusal_comes_before_the_body_for_a_client_that_waits_for_it() {
    let forge = Forge::start().await;
    let host = Host::start(&forge).await;
    let good = component("acme-x", "1.0.0");
    for (token, len, begins) in [
        ("wrong", good.len(), "HTTP/1.1 401"),
        (&*host.ci, 1 << 40, "HTTP/1.1 413"),
        (&*host.ci, good.len(), "HTTP/1.1 100"),
    ] {
        let mut stream = TcpStream::connect(host.mirror.address).await.expect("connects");
        let head = format!(
            "PUT /acme-x/zipball/1.0.0 HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Length: {len}\r\n\
             Expect: 100-continue\r\n\r\n",
            host.mirror.address
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut first = vec![0; begins.len()];
        stream.read_exact(&mut first).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&first), begins);
    }
}
