//! Requests: where the token is sent, which redirects are followed, time limits, proxies and fixed addresses.

use std::sync::OnceLock;

use tokio::net::TcpSocket;

use super::*;

/// An API that redirects every zipball to `location`.
async fn redirecting(location: String) -> Server {
    Server::start(move |_| Reply::to(302, location.clone()).with("content-type", "text/html")).await
}

fn quick(config: Config) -> Config {
    Config {
        response_timeout: Period(Duration::from_millis(200)),
        idle_timeout: Period(Duration::from_millis(200)),
        ..config
    }
}

#[tokio::test]
async fn a_zip_is_fetched_through_an_allowed_redirect_without_the_token() {
    let files = Server::start(|_| Reply::zip()).await;
    let api = redirecting(format!("{}/devsapp/fc3/legacy.zip/refs/tags/a/v1?token=temporary", files.base())).await;
    let mut config = config(UpstreamKind::Github, &api.base());
    config.redirect_hosts = vec![files.address.to_string()];
    let (fetched, bytes) = zip(&with_token(&config), tag("a/v1 #")).await.expect("a zip");
    assert_eq!((fetched.len, fetched.anonymous, bytes.as_slice()), (Some(7), false, &b"PK\x03\x04zip"[..]));
    assert_eq!(api.seen()[0].target, "/repos/devsapp/fc3/zipball/refs/tags/a/v1%20%23");
    assert_eq!(api.seen()[0].header("authorization"), Some("Bearer secret-token"));
    let seen = &files.seen()[0];
    assert_eq!(seen.target, "/devsapp/fc3/legacy.zip/refs/tags/a/v1?token=temporary");
    assert_eq!((seen.header("authorization"), seen.header("x-github-api-version")), (None, None));
    assert_eq!((seen.header("referer"), seen.header("cookie")), (None, None));
    assert_eq!((seen.header("via"), seen.header("accept-encoding")), (Some("1.1 srm-mirror-test"), Some("identity")));
}

#[tokio::test]
async fn a_commit_is_requested_by_its_sha() {
    let api = Server::start(|_| Reply { sized: false, ..Reply::zip() }).await;
    let sha = "12b27abb78e04142adfbdc4aa7fa9571ff05d67b";
    let upstream = anonymous(&config(UpstreamKind::Github, &api.base()));
    let (fetched, bytes) = zip(&upstream, GitRef::Commit(sha.into())).await.expect("a zip");
    assert_eq!((fetched.len, fetched.anonymous, bytes.len()), (None, true, 7));
    assert_eq!(api.take_targets(), [format!("/repos/devsapp/fc3/zipball/{sha}")]);
}

#[tokio::test]
async fn a_redirect_to_an_unlisted_host_is_refused_without_a_request() {
    let files = Server::start(|_| Reply::zip()).await;
    let api = redirecting(format!("{}/x?token=temporary", files.base())).await;
    let error = error(zip(&with_token(&config(UpstreamKind::Github, &api.base())), tag("v1")).await);
    assert!(matches!(error, FetchError::Refused(_)), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("temporary") && !shown.contains("127.0.0.1"), "{shown}");
    assert_eq!(files.take_targets(), [""; 0]);
}

#[tokio::test]
async fn the_token_is_not_sent_again_after_a_redirect_away_from_the_api() {
    let files_at = Arc::new(OnceLock::new());
    let to = files_at.clone();
    let api = Server::start(move |seen| match seen.target.as_str() {
        "/again" => Reply::zip(),
        _ => Reply::to(302, format!("http://{}/x", to.get().expect("started"))),
    })
    .await;
    let back = format!("{}/again", api.base());
    let files = Server::start(move |_| Reply::to(302, back.clone())).await;
    files_at.set(files.address).expect("set once");
    let mut config = config(UpstreamKind::Github, &api.base());
    config.redirect_hosts = vec![files.address.to_string()];
    zip(&with_token(&config), tag("v1")).await.expect("a zip");
    let carried: Vec<_> = api.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(carried, [true, false]);
}

#[tokio::test]
async fn at_most_five_redirects_are_followed() {
    let api = Server::start(|seen| Reply::to(302, format!("{}/again", seen.base()))).await;
    let upstream = with_token(&config(UpstreamKind::Github, &api.base()));
    let of_zip = error(zip(&upstream, tag("v1")).await);
    assert_eq!(api.take_targets().len(), 6);
    let of_document = error(ask(&upstream, DocumentAsk::Latest, None).await);
    assert_eq!(api.take_targets().len(), 6);
    assert_eq!(of_zip, FetchError::Invalid("too many redirects".into()));
    assert_eq!(of_document, of_zip);
}

#[tokio::test]
async fn a_response_that_is_not_a_zip_is_refused_before_its_body_is_read() {
    for reply in [
        Reply::html(),
        Reply::json(serde_json::json!({})),
        Reply::new(200).with("content-type", "text/plain"),
        Reply::zip().with("content-encoding", "gzip"),
        Reply::new(300).with("content-type", "text/plain").body("the given path has multiple possibilities"),
        Reply::new(206).body("PK"),
        Reply::new(302),
    ] {
        let said = format!("{reply:?}");
        let api = Server::start(move |_| reply.clone()).await;
        let error = error(zip(&anonymous(&config(UpstreamKind::Github, &api.base())), tag("v1")).await);
        assert!(matches!(error, FetchError::Invalid(_)), "{said}: {error:?}");
    }
}

#[tokio::test]
async fn a_missing_or_blocked_zip_is_reported_as_such() {
    for (status, expected) in
        [(404, FetchError::NotFound(Missing::Version)), (451, FetchError::Blocked), (500, FetchError::Status(500))]
    {
        let api = Server::start(move |_| Reply::error(status, "x")).await;
        assert_eq!(error(zip(&anonymous(&config(UpstreamKind::Github, &api.base())), tag("v1")).await), expected);
    }
}

#[tokio::test]
async fn a_stalled_response_times_out_before_the_head_and_within_the_body() {
    for end in [ResponseEnd::Nothing, ResponseEnd::Silence] {
        let api = Server::start(move |_| Reply::zip().end(end)).await;
        let upstream = anonymous(&quick(config(UpstreamKind::Github, &api.base())));
        let of_zip = error(zip(&upstream, tag("v1")).await);
        let of_document = error(ask(&upstream, DocumentAsk::Latest, None).await);
        for error in [of_zip, of_document] {
            assert!(matches!(error, FetchError::Timeout(_)), "{end:?}: {error:?}");
        }
    }
}

#[tokio::test]
async fn time_limits_may_be_forever() {
    let api = Server::start(|seen| match seen.target.contains("latest") {
        true => Reply::json(release("v1")),
        false => Reply::error(404, "Not Found"),
    })
    .await;
    let connect_timeout = Period::FOREVER;
    let response_timeout = Period::FOREVER;
    let idle_timeout = Period::FOREVER;
    let config =
        Config { connect_timeout, response_timeout, idle_timeout, ..config(UpstreamKind::Github, &api.base()) };
    let upstream = anonymous(&config);
    ask(&upstream, DocumentAsk::Latest, None).await.expect("a release");
    error(ask(&upstream, DocumentAsk::Repository, None).await);
}

#[tokio::test]
async fn a_truncated_body_ends_with_an_error() {
    let cut = Reply { sized: false, ..Reply::zip().with("content-length", "100").end(ResponseEnd::Closed) };
    let api = Server::start(move |_| cut.clone()).await;
    let error = error(zip(&anonymous(&config(UpstreamKind::Github, &api.base())), tag("v1")).await);
    assert!(matches!(error, FetchError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn stalled_archives_leave_places_for_documents() {
    let api = Server::start(|seen| match seen.target.contains("zipball") {
        true => Reply::zip().end(ResponseEnd::Silence),
        false => Reply::json(release("v1")),
    })
    .await;
    let config = Config { concurrency: 1, downloads: 1, ..config(UpstreamKind::Github, &api.base()) };
    let upstream = anonymous(&config);
    let standing = upstream.archive(&package(), &tag("v1"), ClientId::Mirror).await.expect("an archive");
    let name = package();
    let reference = tag("v2");
    let mut waiting = std::pin::pin!(upstream.archive(&name, &reference, ClientId::Mirror));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    ask(&upstream, DocumentAsk::Latest, None).await.expect("a release");
    assert_eq!(api.take_targets().len(), 2, "the second archive waits for its place");
    drop(standing);
    waiting.await.expect("the second archive");
}

#[tokio::test]
async fn a_refused_connection_is_unreachable_with_its_reason() {
    // Taken and not listened on: no other test gets the port.
    let closed = TcpSocket::new_v4().expect("a socket");
    closed.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let gone = closed.local_addr().expect("an address");
    let upstream = anonymous(&config(UpstreamKind::Github, &format!("http://{gone}")));
    assert_eq!(error(ask(&upstream, DocumentAsk::Latest, None).await), FetchError::Unreachable("connection refused"));
}

#[tokio::test]
async fn the_fixed_address_is_used_instead_of_the_host_name() {
    let api = Server::start(|_| Reply::json(release("v1"))).await;
    let config = Config { address: Some(api.address), ..config(UpstreamKind::Github, "http://api.forge.test") };
    ask(&anonymous(&config), DocumentAsk::Latest, None).await.expect("a release");
    assert_eq!(api.seen()[0].header("host"), Some("api.forge.test"));
}

#[tokio::test]
async fn plain_http_goes_through_the_proxy_unless_the_host_is_in_no_proxy() {
    let proxy = Server::start(|_| Reply::json(release("proxied"))).await;
    let api = Server::start(|_| Reply::json(release("direct"))).await;
    let mut config = config(UpstreamKind::Github, &api.base());
    config.proxy = Some(proxy.base());
    ask(&anonymous(&config), DocumentAsk::Latest, None).await.expect("a release");
    assert_eq!(proxy.take_targets(), [format!("{}/repos/devsapp/fc3/releases/latest", api.base())]);
    config.no_proxy = Some("127.0.0.1".into());
    ask(&anonymous(&config), DocumentAsk::Latest, None).await.expect("a release");
    assert_eq!((proxy.take_targets().len(), api.take_targets().len()), (0, 1));
}

#[tokio::test]
async fn https_goes_through_the_proxy_by_connect_and_its_refusal_is_reported() {
    let proxy = Server::start(|_| Reply::error(403, "not allowed")).await;
    let mut config = config(UpstreamKind::Github, "https://api.forge.test");
    config.proxy = Some(proxy.base());
    let error = error(ask(&with_token(&config), DocumentAsk::Latest, None).await);
    assert_eq!(error, FetchError::Unreachable("the proxy refused"));
    let seen = &proxy.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("CONNECT", "api.forge.test:443"));
    assert_eq!(seen.header("authorization"), None, "the token is for the API alone");
}

#[tokio::test]
async fn a_socks_proxy_receives_the_host_name_and_its_refusal_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = listener.local_addr().expect("an address");
    let config =
        Config { proxy: Some(format!("socks5h://{proxy}")), ..config(UpstreamKind::Github, "http://api.forge.test") };
    let upstream = with_token(&config);
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await.expect("a greeting (RFC 1928)");
        stream.write_all(&[5, 0]).await.expect("no authentication");
        let mut request = [0; 5 + 14 + 2];
        stream.read_exact(&mut request).await.expect("a request");
        stream.write_all(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("not allowed by ruleset");
        request
    };
    let (request, result) = tokio::join!(serve, ask(&upstream, DocumentAsk::Latest, None));
    assert_eq!(request, *b"\x05\x01\x00\x03\x0eapi.forge.test\x00\x50");
    assert_eq!(error(result), FetchError::Unreachable("the proxy refused"));
}

#[test]
fn a_build_error_names_the_key_and_no_secret() {
    let base = || config(UpstreamKind::Github, "https://api.forge.test:8443");
    let address = Some("192.0.2.1:443".parse().expect("an address"));
    let numeric = config(UpstreamKind::Github, "https://192.0.2.1");
    for (key, config) in [
        ("proxy", Config { proxy: Some("ftp://user:hunter2@proxy.test".into()), ..base() }),
        ("proxy", Config { proxy: Some("hunter2".into()), ..base() }),
        ("ca_file", Config { ca_file: Some("does/not/exist.pem".into()), ..base() }),
        ("address", Config { address, ..base() }),
        ("address", Config { address, ..numeric }),
        ("concurrency", Config { concurrency: 0, ..base() }),
        ("downloads", Config { downloads: 0, ..base() }),
        ("redirect_hosts", Config { redirect_hosts: vec!["*".into()], ..base() }),
    ] {
        let error = build("forge", &config, Vec::new(), &process()).err().expect("an error");
        assert_eq!((error.key, error.upstream.as_str()), (key, "forge"));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = CredentialSource::of_token("VARIABLE", &Secret::new("hunter2\nx")).expect_err("an error");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn the_defaults_are_two_forges_and_two_registries_and_can_be_built() {
    let defaults = defaults();
    assert_eq!(defaults.keys().collect::<Vec<_>>(), ["gitee", "github", "official", "official-2x"]);
    for (name, config) in &defaults {
        assert!(!build(name, config, Vec::new(), &process()).expect("valid").has_token());
    }
}
