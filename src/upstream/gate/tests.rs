//! The gate as a whole: deadlines, and one upstream's trouble.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::value::Period;

fn gate(downloads: usize) -> Gate {
    let mut config = super::super::defaults().remove("github").expect("a default section");
    config.downloads = downloads;
    config.concurrency = 2;
    config.queue_timeout = Period::secs(10);
    Gate::new("github", &config)
}

fn client(last: u8) -> ClientId {
    ClientId::of_address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
}

fn api() -> Url {
    Url::parse("https://api.forge.test/x").expect("a URL")
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_a_place_beyond_the_deadline_and_the_shortage_is_reported_for_a_minute() {
    let gate = gate(1);
    let held = gate.take_place(PlaceKind::Download, client(1)).await.expect("a place");
    let started = tokio::time::Instant::now();
    let busy = gate.take_place(PlaceKind::Download, client(2)).await.expect_err("no place");
    assert_eq!(busy, FetchError::Busy { retry_after: Duration::from_secs(10) });
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    assert_eq!(gate.status().short_of, [PlaceKind::Download]);
    assert!(gate.take_place(PlaceKind::Document, client(2)).await.is_ok(), "documents have places of their own");
    drop(held);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(gate.status(), GateStatus::default());
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_at_once_and_the_breakers_of_other_hosts_stay_closed() {
    let gate = gate(1);
    let cause = FetchError::Timeout("no response in time");
    for _ in 0..5 {
        gate.attempt(&api(), IsApi::Yes).expect("closed").failed(&cause, None);
    }
    let refused = gate.take_place(PlaceKind::Document, client(1)).await.expect_err("open");
    assert!(matches!(refused, FetchError::CoolingDown { .. }), "{refused:?}");
    let storage = Url::parse("https://storage.forge.test/x").expect("a URL");
    assert!(gate.attempt(&storage, IsApi::No).is_ok());
    assert_eq!(gate.status().open.map(|(cause, _)| cause), Some(cause));
}

#[test]
fn the_number_of_breakers_is_bounded() {
    let gate = gate(1);
    for host in 0..1000 {
        let url = Url::parse(&format!("https://h{host}.forge.test/x")).expect("a URL");
        let attempt = gate.attempt(&url, IsApi::No).expect("closed");
        attempt.failed(&FetchError::Status(500), None);
    }
    assert!(gate.hosts.lock().len() <= MAX_HOSTS);
}
