//! JSON responses support HEAD and ETag, and their headers are exactly those of the contract.

use crate::{
    answer_text::without_age,
    forge::Forge,
    mirror::{Mirror, setup},
    plain_client,
};

async fn mirror() -> (Forge, Mirror) {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r).release("v1.1.0", |r| r);
    let mirror = setup(&forge).start().await;
    (forge, mirror)
}

const ROUTES: [&str; 9] = [
    "/devsapp/fc3/releases",
    "/devsapp/fc3/releases/latest",
    "/devsapp/fc3/releases/tags/v1.0.0",
    "/devsapp/fc3/metadata",
    "/devsapp/fc3/metadata/v1.0.0",
    "/repos/devsapp/fc3",
    "/repos/devsapp/fc3/releases?per_page=1",
    "/simple/devsapp/fc3/releases",
    "/v3/packages/devsapp__fc3/release/latest",
];

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let (_forge, mirror) = mirror().await;
    for route in ROUTES {
        mirror.get(route).await;
        let got = mirror.get(route).await;
        let head = mirror.head(route).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{route}");
        for name in ["content-type", "content-length", "etag", "link"] {
            assert_eq!(head.header(name), got.header(name), "{route}: {name}");
        }
        assert_eq!(got.header("content-type"), "application/json; charset=utf-8", "{route}");
        for answer in [&got, &head] {
            assert_eq!(without_age(answer.header("cache-control")), "public, max-age=60", "{route}");
        }
        assert!(!got.header("age").is_empty() && !got.header("date").is_empty(), "{route}");
        assert!(got.cache_status().starts_with("srm-mirror; hit; ttl="), "{route}: {}", got.cache_status());
    }
    let missing = mirror.head("/devsapp/none/releases").await;
    assert_eq!((missing.status, missing.body.len()), (404, 0));
}

#[tokio::test]
async fn a_matching_etag_is_304_and_another_documents_is_not() {
    let (forge, mirror) = mirror().await;
    for route in ROUTES {
        let got = mirror.get(route).await;
        let etag = got.header("etag").to_owned();
        if route.starts_with("/v3/") {
            assert_eq!(etag, "", "its envelope names the request");
            continue;
        }
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let same = mirror.get_with(route, &[("if-none-match", &known)]).await;
            assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, etag.as_str()), "{route} {known}");
            assert!(
                !same.cache_status().is_empty() && without_age(same.header("cache-control")) == "public, max-age=60"
            );
        }
        assert_eq!(mirror.get_with(route, &[("if-none-match", "\"x\"")]).await.status, 200, "{route}");
        assert_eq!(mirror.get_with(route, &[("range", "bytes=0-1")]).await.status, 200, "{route}");
    }
    let old = mirror.get("/devsapp/fc3/releases").await.header("etag").to_owned();
    forge.repo("devsapp/fc3").release("v2.0.0", |r| r);
    mirror.clock.advance(std::time::Duration::from_secs(3600));
    let new = mirror.get_with("/devsapp/fc3/releases", &[("if-none-match", &old)]).await;
    assert_eq!(new.status, 200);
    assert_ne!(new.header("etag"), old);
}

#[tokio::test]
async fn the_etag_differs_by_base_dialect_and_page() {
    let (_forge, mirror) = mirror().await;
    let etag = async |path: &str, host: &str| mirror.get_with(path, &[("host", host)]).await.header("etag").to_owned();
    let all = [
        etag("/devsapp/fc3/releases", "a").await,
        etag("/devsapp/fc3/releases", "b").await,
        etag("/devsapp/fc3/releases?per_page=1", "a").await,
        etag("/devsapp/fc3/releases?per_page=1&page=2", "a").await,
        etag("/repos/devsapp/fc3/releases", "a").await,
        etag("/api/v3/repos/devsapp/fc3/releases", "a").await,
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
    assert_eq!(etag("/devsapp/fc3/releases", "a").await, all[0], "and is the same for the same");
}

#[tokio::test]
async fn requests_without_user_agent_and_accept_are_answered() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (_forge, mirror) = mirror().await;
    for path in ["/devsapp/fc3/releases", "/devsapp/fc3/zipball/v1.0.0"] {
        let mut stream = tokio::net::TcpStream::connect(mirror.address).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("reads");
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{path}");
    }
}

#[tokio::test]
async fn a_list_names_the_host_of_each_client_and_a_page_beyond_the_last_is_empty() {
    let (_forge, mirror) = mirror().await;
    for path in ["/devsapp/fc3/releases", "/repos/devsapp/fc3/releases", "/simple/devsapp/fc3/releases"] {
        let of = async |host: &str| mirror.get_with(path, &[("host", host)]).await;
        let first = of("first.example").await;
        let other = of("a-much-longer-name.example:8443").await;
        let text = String::from_utf8(first.body.to_vec()).expect("text");
        let renamed = text.replace("http://first.example", "http://a-much-longer-name.example:8443");
        assert_ne!(renamed, text);
        assert_eq!(other.body, renamed, "{path}");
        assert_eq!(other.header("content-length"), renamed.len().to_string());
        assert_eq!(of("first.example").await.header("etag"), first.header("etag"));
    }
    let beyond = mirror.get("/devsapp/fc3/releases?per_page=10&page=4294967295").await;
    assert_eq!((beyond.status, &beyond.body[..]), (200, &b"[]"[..]));
    let beyond = mirror.get("/simple/devsapp/fc3/releases?page=7").await;
    assert_eq!((beyond.status, &beyond.body[..]), (200, &b"{\"Response\":[]}"[..]));
}

/// The bytes that a gzip body stands for.
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
    out
}

#[tokio::test]
async fn a_client_that_takes_gzip_gets_it_where_the_base_is_configured() {
    let forge = Forge::start().await;
    for number in 0..20 {
        forge.repo("devsapp/fc3").release(&format!("v1.{number}.0"), |r| r);
    }
    let public = |config: &mut srm_mirror::config::Config| {
        config.server.public_url = Some("https://mirror.example".parse().expect("an address"));
    };
    let mirror = setup(&forge).with(public).start().await;
    const GZIP: (&str, &str) = ("accept-encoding", "gzip, br");
    for path in ["/devsapp/fc3/releases", "/repos/devsapp/fc3/releases", "/simple/devsapp/fc3/releases"] {
        for round in 0..2 {
            let plain = mirror.get(path).await;
            let packed = mirror.get_with(path, &[GZIP]).await;
            assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), ("", "gzip"), "{round}");
            assert_eq!((plain.header("vary"), packed.header("vary")), ("accept-encoding", "accept-encoding"));
            assert!(packed.body.len() * 3 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
            assert_eq!(gunzip(&packed.body), plain.body);
            assert_ne!(plain.header("etag"), packed.header("etag"));
            assert!(!packed.header("etag").starts_with("W/"));
            let same = mirror.get_with(path, &[GZIP, ("if-none-match", packed.header("etag"))]).await;
            assert_eq!(
                (same.status, same.header("vary"), same.header("etag")),
                (304, "accept-encoding", packed.header("etag"))
            );
            let other = mirror.get_with(path, &[("if-none-match", packed.header("etag"))]).await;
            assert_eq!(other.status, 200, "another form");
            let client = plain_client::builder().build().expect("a client");
            let head = client.head(format!("http://{}{path}", mirror.address)).header(GZIP.0, GZIP.1).send().await;
            let head = head.expect("a head");
            assert_eq!(head.headers()["content-length"], packed.body.len().to_string());
            assert_eq!(head.headers()["etag"], packed.header("etag"));
        }
    }
    for path in
        ["/v3/packages/devsapp__fc3/release/latest", "/devsapp/fc3/releases?per_page=20", "/devsapp/fc3/zipball/v1.0.0"]
    {
        let got = mirror.get_with(path, &[GZIP]).await;
        assert_eq!((got.status, got.header("content-encoding"), got.header("vary")), (200, "", ""), "{path}");
    }
    let mirror = setup(&forge).start().await;
    let got = mirror.get_with("/devsapp/fc3/releases", &[GZIP]).await;
    assert_eq!((got.header("content-encoding"), got.header("vary")), ("", ""), "the address is the client's");
}
