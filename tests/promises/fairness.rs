//! Scarce places for downloads are shared among the clients that a trusted proxy names.

use serde_json::json;
use srm_mirror::value::Period;

use crate::{
    forge::{Forge, Gate, Host, Match, Seen},
    mirror::{Mirror, setup},
};

/// Two clients, which have one proxy.
const FIRST: &str = "192.0.2.1";
const SECOND: &str = "192.0.2.2";

/// What the clients ask for: tags of one repository.
const TAGS: u64 = 8;

fn tag(number: u64) -> String {
    format!("v{number}.0.0")
}

/// A mirror with two places for downloads. Its clients come through a trusted proxy, which names them if `client_header`
/// says where.
async fn mirror(forge: &Forge, client_header: Option<&str>) -> Mirror {
    let repository = forge.repo("devsapp/fc3");
    (0..TAGS).fold(repository, |repository, n| repository.release(&tag(n), |r| r.noise("data.bin", n, 4096)));
    let setup = setup(forge).with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.1".parse().expect("a network")];
        config.server.client_header = client_header.map(str::to_owned);
        for upstream in config.upstreams.values_mut() {
            upstream.downloads = 2;
            upstream.queue_timeout = Period::secs(60);
        }
    });
    setup.start().await
}

/// How many requests wait for a place for a download, as `cache stats` shows it.
async fn waiting(mirror: &Mirror) -> u64 {
    let stats = mirror.admin(mirror.dir(), "stats", json!({})).await.remove(0);
    let queues = stats["queues"].as_array().expect("a list");
    let downloads = queues.iter().find(|queue| queue["upstream"] == "github" && queue["places"] == "downloads");
    downloads.map_or(0, |queue| queue["waiting"].as_u64().expect("a number"))
}

/// The tags whose download has begun, in this order.
fn begun(forge: &Forge) -> Vec<u64> {
    let is_archive = |seen: &&Seen| seen.host == Host::Archive;
    let number = |seen: &Seen| (0..TAGS).find(|n| seen.path().contains(&tag(*n))).expect("a tag");
    forge.requests().iter().filter(is_archive).map(number).collect()
}

/// The first client asks for the tags 0 to 5, then the second one for 6 and 7. Returns the order in which the downloads
/// begin, while one at a time ends, the oldest first.
async fn order(forge: &Forge, mirror: &Mirror) -> Vec<u64> {
    let gates: Vec<Gate> =
        (0..TAGS).map(|n| forge.gate(Match::path_contains(&tag(n)).host(Host::Archive), 10)).collect();
    let mut downloads = Vec::new();
    for n in 0..TAGS {
        let client = if n < 6 { FIRST } else { SECOND };
        let request = mirror.client.get(mirror.url(&format!("/devsapp/fc3/zipball/refs/tags/{}", tag(n))));
        downloads.push(tokio::spawn(request.header("x-forwarded-for", client).send()));
        // The next one asks when this one has its place or waits for one: the order of arrival is known.
        match n {
            0 | 1 => gates[usize::try_from(n).expect("small")].reached().await,
            _ => crate::eventually::eventually("queued", async || waiting(mirror).await == n - 1).await,
        }
    }
    for ended in 0..usize::try_from(TAGS).expect("small") {
        let oldest = usize::try_from(begun(forge)[ended]).expect("small");
        gates[oldest].open();
        let expected = (ended + 3).min(gates.len());
        crate::eventually::eventually("the next begins", async || begun(forge).len() == expected).await;
    }
    for download in downloads {
        let response = download.await.expect("no panic").expect("a head");
        assert_eq!(response.status(), 200);
        assert!(response.bytes().await.expect("a whole zip").starts_with(b"PK"));
    }
    assert_eq!(waiting(mirror).await, 0);
    begun(forge)
}

#[tokio::test]
async fn scarce_places_are_shared_among_the_clients_of_a_trusted_proxy() {
    let forge = Forge::start().await;
    let mirror = mirror(&forge, Some("x-forwarded-for")).await;
    // The second client's first download begins with the first place that is free, before four that came earlier. From
    // then on each client has one place.
    assert_eq!(order(&forge, &mirror).await, [0, 1, 6, 2, 7, 3, 4, 5]);
}

#[tokio::test]
async fn clients_whom_no_header_names_are_one_and_come_in_the_order_of_arrival() {
    let forge = Forge::start().await;
    let mirror = mirror(&forge, None).await;
    assert_eq!(order(&forge, &mirror).await, [0, 1, 2, 3, 4, 5, 6, 7]);
}
