//! Limits of one client: off by default, 429 with `Retry-After` beyond them, and no other client notices.

use srm_mirror::{peer::ClientLimits, value::ByteSize};

use crate::{
    forge::Forge,
    mirror::{Mirror, TestResponse, setup},
};

const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";
const LIST: &str = "/devsapp/fc3/releases";

/// A mirror behind a trusted proxy, which names the clients.
async fn mirror(limits: ClientLimits) -> (Forge, Mirror) {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.noise("data.bin", 1, 1 << 20));
    let mirror = setup(&forge).with(|config| {
        config.clients = limits;
        config.server.trusted_proxies = vec!["127.0.0.1".parse().expect("a network")];
        config.server.client_header = Some("x-forwarded-for".into());
    });
    (forge, mirror.start().await)
}

async fn ask(mirror: &Mirror, client: &str, path: &str) -> TestResponse {
    mirror.get_with(path, &[("x-forwarded-for", client)]).await
}

/// Asserts a refusal by the limit of this key, which `/readyz` and `cache stats` count.
async fn assert_refused(mirror: &Mirror, got: &TestResponse, key: &str) {
    assert_eq!(got.status, 429, "{key}: {got:?}");
    let wait: u64 = got.header("retry-after").parse().expect("seconds");
    assert!((1..=600).contains(&wait), "{key}: {wait}");
    assert!(String::from_utf8_lossy(&got.body).contains(&format!("clients.{key}")), "{got:?}");
    let ready = mirror.get("/readyz").await;
    assert!(ready.json()["refused"][key].as_u64() >= Some(1), "{:?}", ready.body);
    let stats = mirror.admin(mirror.dir(), "stats", serde_json::json!({})).await;
    assert!(stats[0]["refused"][key].as_u64() >= Some(1), "{stats:?}");
}

#[tokio::test]
async fn a_client_over_its_request_rate_is_429_and_another_is_served() {
    let limits = ClientLimits { requests_per_second: Some(1), ..ClientLimits::default() };
    let (_forge, mirror) = mirror(limits).await;
    // Each answer takes far less than a second: the third request at the latest is over the rate.
    let mut last = ask(&mirror, "192.0.2.1", LIST).await;
    for _ in 0..50 {
        last = ask(&mirror, "192.0.2.1", LIST).await;
        if last.status == 429 {
            break;
        }
    }
    assert_refused(&mirror, &last, "requests_per_second").await;
    assert_eq!(ask(&mirror, "192.0.2.2", LIST).await.status, 200);
    assert_eq!(ask(&mirror, "192.0.2.1", "/healthz").await.status, 200, "health checks have no limit");
}

#[tokio::test]
async fn a_client_that_was_sent_its_bytes_is_429_until_it_has_paid() {
    let limits = ClientLimits { bytes_per_second: Some(ByteSize(10_000)), ..ClientLimits::default() };
    let (_forge, mirror) = mirror(limits).await;
    assert_eq!(ask(&mirror, "2001:db8::1", ZIP).await.status, 200);
    // The bytes are counted when the body has ended, which the client may see first.
    let mut next = ask(&mirror, "2001:db8::2", ZIP).await;
    for _ in 0..50 {
        if next.status == 429 {
            break;
        }
        next = ask(&mirror, "2001:db8::2", ZIP).await;
    }
    assert_refused(&mirror, &next, "bytes_per_second").await;
    assert_eq!(ask(&mirror, "2001:db8:0:1::1", ZIP).await.status, 200, "another network is another client");
}

#[tokio::test]
async fn a_client_over_its_cold_misses_is_still_served_what_is_stored() {
    let limits = ClientLimits { cold_misses_per_minute: Some(3), ..ClientLimits::default() };
    let (forge, mirror) = mirror(limits).await;
    for number in 0..9 {
        forge.repo(&format!("devsapp/cold{number}")).release("v1.0.0", |r| r.file("a", b"1"));
    }
    assert_eq!(ask(&mirror, "192.0.2.2", ZIP).await.status, 200);
    let mut refused = None;
    for number in 0..9 {
        let got = ask(&mirror, "192.0.2.1", &format!("/devsapp/cold{number}/zipball/v1.0.0")).await;
        if got.status == 429 {
            refused = Some((number, got));
            break;
        }
        assert_eq!(got.status, 200, "{got:?}");
    }
    let (number, got) = refused.expect("no cold miss was refused");
    assert!(number > 0, "the first one is within the limit");
    assert_refused(&mirror, &got, "cold_misses_per_minute").await;
    assert_eq!(ask(&mirror, "192.0.2.1", ZIP).await.status, 200, "what another client has fetched is stored");
    let cold = format!("/devsapp/cold{number}/zipball/v1.0.0");
    assert_eq!(ask(&mirror, "192.0.2.2", &cold).await.status, 200, "a refusal is not remembered for others");
}

#[tokio::test]
async fn a_client_that_asks_for_unknown_names_is_429_and_is_served_what_is_stored() {
    let limits = ClientLimits { unknown_names_per_minute: Some(2), ..ClientLimits::default() };
    let (forge, mirror) = mirror(limits).await;
    assert_eq!(ask(&mirror, "192.0.2.2", ZIP).await.status, 200);
    for number in 0..2 {
        assert_eq!(ask(&mirror, "192.0.2.1", &format!("/devsapp/none{number}/releases")).await.status, 404);
    }
    let asked = forge.count(|_| true);
    assert_refused(&mirror, &ask(&mirror, "192.0.2.1", "/devsapp/none9/releases").await, "unknown_names_per_minute")
        .await;
    assert_eq!(forge.count(|_| true), asked, "the forge was asked");
    assert_eq!(ask(&mirror, "192.0.2.1", ZIP).await.status, 200);
}

#[tokio::test]
async fn a_client_over_its_connections_or_requests_is_429() {
    let limits = ClientLimits { requests: Some(1), ..ClientLimits::default() };
    let (forge, mirror) = mirror(limits).await;
    let gate = forge.gate_head(crate::forge::Match::any());
    let running = async { ask(&mirror, "192.0.2.1", ZIP).await };
    let second = async {
        gate.reached().await;
        let got = ask(&mirror, "192.0.2.1", LIST).await;
        gate.open();
        got
    };
    let (first, second) = tokio::join!(running, second);
    assert_eq!(first.status, 200);
    assert_refused(&mirror, &second, "requests").await;

    let forge = Forge::start().await;
    let mirror = setup(&forge).with(|config| config.clients.connections = Some(2)).start().await;
    let held = [mirror.address; 2].map(|address| std::net::TcpStream::connect(address).expect("connected"));
    use tokio::io::AsyncReadExt as _;
    let mut third = tokio::net::TcpStream::connect(mirror.address).await.expect("connected");
    let mut text = String::new();
    third.read_to_string(&mut text).await.expect("closed");
    assert!(text.starts_with("HTTP/1.1 429 ") && text.contains("\r\nRetry-After: 1\r\n"), "{text}");
    drop(held);
}
