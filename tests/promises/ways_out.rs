//! Outgoing connections are configured: a proxy, exceptions from it, a fixed address for the API's host.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    closed_port::ClosedPort,
    forge::Forge,
    mirror::{Setup, setup},
};

/// A forwarding proxy for plain HTTP: records requests and forwards one per connection.
async fn proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let log = log.clone();
            tokio::spawn(async move { forward(stream, &log).await });
        }
    });
    (address, seen)
}

async fn forward(mut client: TcpStream, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let (line, rest) = head.split_once("\r\n")?;
    let target = line.split(' ').nth(1)?.to_owned();
    log.lock().push(target.clone());
    let url: reqwest::Url = target.parse().ok()?;
    let mut server = TcpStream::connect((url.host_str()?, url.port()?)).await.ok()?;
    let path = &target[target.find(url.path())?..];
    let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{rest}");
    server.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.ok()?;
    client.write_all(&answer).await.ok()
}

fn github(setup: Setup, change: impl FnOnce(&mut srm_mirror::upstream::Config)) -> Setup {
    setup.with(|config| change(config.upstreams.get_mut("github").expect("configured")))
}

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge
}

#[tokio::test]
async fn every_request_of_an_upstream_goes_through_its_proxy_archives_included() {
    let forge = forge().await;
    forge.gitee_repo("devsapp/fc3").release("v1.0.0", |r| r);
    let (address, seen) = proxy().await;
    let mirror = github(setup(&forge), |section| section.proxy = Some(format!("http://{address}"))).start().await;
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.sha256(), forge.sha256("devsapp/fc3", "v1.0.0"));
    let asked = seen.lock().clone();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[0].starts_with(&forge.github_api()) && asked[2].contains(&forge.archive_host()), "{asked:?}");
    assert_eq!(mirror.get("/gitee/devsapp/fc3/releases").await.status, 200);
    assert_eq!(seen.lock().len(), 3, "the other upstream has no proxy");
}

#[tokio::test]
async fn no_proxy_lists_hosts_reached_directly() {
    let forge = forge().await;
    let (address, seen) = proxy().await;
    let mirror = github(setup(&forge), |section| {
        section.proxy = Some(format!("http://{address}"));
        section.no_proxy = Some("127.0.0.1".into());
    })
    .start()
    .await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    assert!(seen.lock().is_empty());
}

#[tokio::test]
async fn a_proxy_that_is_down_makes_the_upstream_unreachable() {
    let forge = forge().await;
    let port = ClosedPort::new();
    let closed = port.address();
    let mirror = github(setup(&forge), |section| section.proxy = Some(format!("http://{closed}"))).start().await;
    let got = mirror.get("/devsapp/fc3/releases").await;
    assert_eq!(got.status, 502);
    assert!(!String::from_utf8_lossy(&got.body).contains(&closed.port().to_string()));
    assert!(forge.requests().is_empty());
}

#[tokio::test]
async fn a_fixed_address_replaces_name_resolution() {
    let forge = forge().await;
    let address: SocketAddr = forge.github_api().trim_start_matches("http://").parse().expect("an address");
    let api = format!("http://api.forge.invalid:{}", address.port());
    let lost = github(setup(&forge), |section| section.api = api.parse().expect("an address")).start().await;
    assert_eq!(lost.get("/devsapp/fc3/releases").await.status, 502, "nothing resolves that name");
    let found = github(setup(&forge), |section| {
        section.api = api.parse().expect("an address");
        section.address = Some(address);
    })
    .start()
    .await;
    assert_eq!(found.get("/devsapp/fc3/releases").await.status, 200);
    assert_eq!(found.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
    let seen = forge.requests();
    assert_eq!(seen[0].header("host"), format!("api.forge.invalid:{}", address.port()));
}
