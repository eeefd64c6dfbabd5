//! The second step of publishing with the command line client: every response but a success is a broken connection, and the
//! publisher finds the reason among the failed publications.

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use srm_mirror::{peer::ClientLimits, value::ByteSize};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::oneshot,
    time::{Duration, timeout},
};

use crate::{
    eventually::eventually,
    forge::Forge,
    hosted::{component, publish_yaml},
    hosted_cli::{Cli, rest, sentence, start, start_with, upload},
    mirror::Mirror,
    plain_client,
    process::Launch,
};

/// The target of an upload address that no mirror has made.
const FORGED: &str = "/v3/uploads/acme-x/1.0.0?srm=u.a.b.c.d.e.f";

#[tokio::test]
async fn an_upload_over_the_limits_of_its_client_breaks_off_and_its_address_holds() {
    let forge = Forge::start().await;
    let host = start_with(&forge, |config| {
        config.clients = ClientLimits { requests_per_second: Some(1), ..ClientLimits::default() };
    })
    .await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    // Each answer takes far less than a second: most of these are over the rate.
    for _ in 0..50 {
        assert_eq!(upload(&host.mirror.client, &host.mirror.url(FORGED), b"no zip".to_vec()).await, None);
    }
    let ready = host.mirror.get("/readyz").await.json();
    assert!(ready["refused"]["requests_per_second"].as_u64() >= Some(1), "{ready}");
    eventually("the rate allows another request", async || {
        match upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await {
            None => false,
            Some(status) => status == 201 || panic!("the client prints success for {status}"),
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_is_refused_before_its_address_is_read_breaks_off_and_its_address_holds() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    let host = start_with(&forge, |config| config.server.known_hosts = vec!["127.0.0.1".into()]).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    let target = url.strip_prefix(&host.mirror.url("")).expect("its own");
    host.get("/devsapp/fc3/releases").await;
    let own = forge.requests()[0].header("via").rsplit("1.1 ").next().expect("a name").to_owned();
    let known = format!("Host: {}\r\n", host.mirror.address);
    for (what, fields) in [
        ("no host", String::new()),
        ("two hosts", format!("{known}{known}")),
        ("a malformed host", "Host: a b\r\n".to_owned()),
        ("another host", "Host: evil.example\r\n".to_owned()),
        ("credentials that are not valid", format!("{known}Authorization: Bearer srmt_no\r\n")),
        ("a loop", format!("{known}Via: 1.1 {own}\r\n")),
    ] {
        let mut stream = TcpStream::connect(host.mirror.address).await.expect("connects");
        let head = format!("PUT {target} HTTP/1.1\r\n{fields}Content-Length: 2\r\n\r\nno");
        stream.write_all(head.as_bytes()).await.expect("written");
        assert_eq!(String::from_utf8_lossy(&rest(&mut stream).await), "", "{what}");
    }
    let http2 = plain_client::builder().http2_prior_knowledge().build().expect("a client");
    assert!(http2.put(&url).bearer_auth("srmt_no").body("no").send().await.is_err(), "the stream is reset");
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, Some(201));
}

#[tokio::test]
async fn an_upload_that_cannot_be_read_or_that_a_mirror_without_publishing_gets_breaks_off() {
    let forge = Forge::start().await;
    let hosting = start(&forge).await;
    let mirror = Mirror::over(&forge).await;
    for mirror in [&hosting.mirror, &mirror] {
        for path in ["/v3/uploads/acme-x/1.0.0", "/v3/uploads/%01/1.0.0", "/v3/uploads/acme-x/..", "/v3/uploads"] {
            assert_eq!(upload(&mirror.client, &mirror.url(path), b"no".to_vec()).await, None, "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_refused_between_the_two_steps_is_a_failed_publication_with_a_sentence() {
    let forge = Forge::start().await;
    let full = component("acme-y", "1.0.0");
    let quota = ByteSize(full.len() as u64);
    let host = start_with(&forge, |config| config.hosted.as_mut().expect("a section").quota = quota).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    assert_eq!(host.put("acme-y", "1.0.0", full).await.status, 201);
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, None);
    assert_eq!(ci.failed("acme-x").await[0]["reason"], "the store of published packages is full");

    let deleted = host.send(Method::DELETE, "/acme-y/zipball/1.0.0", &host.ci, Vec::new(), &[]).await;
    assert_eq!(deleted.status, 200);
    let url = ci.reserve("acme-x", "1.0.0").await;
    assert_eq!(host.put("acme-x", "2.0.0", component("acme-x", "2.0.0")).await.status, 201);
    assert_eq!(
        host.send(Method::DELETE, "/acme-x/zipball/2.0.0", &host.ci, Vec::new(), &[]).await.status,
        200,
        "there is room again"
    );
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, None);
    let failed = ci.failed("acme-x").await;
    assert_eq!(failed[0]["reason"], "this version is not above the highest published version, 2.0.0", "{failed:?}");

    // Nothing of an address that does not hold any more is a failed publication.
    let earlier = ci.reserve("acme-x", "3.0.0").await;
    ci.reserve("acme-x", "3.0.0").await;
    assert_eq!(upload(&host.mirror.client, &earlier, component("acme-x", "3.0.0")).await, None);
    assert!(ci.failed("acme-x").await.iter().all(|failed| failed["failed_version"] != "3.0.0"));
}

#[tokio::test]
async fn an_address_that_cannot_be_marked_as_used_is_a_failed_publication_without_the_text_of_the_system() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    std::fs::remove_dir(host.store().join("uploads/spent")).expect("empty");
    assert_eq!(upload(&host.mirror.client, &url, component("acme-x", "1.0.0")).await, None);
    let failed = ci.failed("acme-x").await;
    assert_eq!(failed[0]["reason"], "this mirror cannot write the version; ask the operator of this mirror");
    assert!(host.files().is_empty(), "{:?}", host.files());
}

#[tokio::test]
async fn a_version_is_not_reserved_again_while_its_zip_arrives() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let url = ci.reserve("acme-x", "1.0.0").await;
    let zip = component("acme-x", "1.0.0");
    let (go_on, is_refused) = oneshot::channel::<()>();
    let start = zip[..100].to_vec();
    let end = zip[100..].to_vec();
    let end = async move {
        is_refused.await.expect("goes on");
        Ok::<_, std::io::Error>(end)
    };
    let parts = futures_util::stream::iter([Ok(start)]).chain(futures_util::stream::once(end));
    let sending = host.mirror.client.put(&url).body(reqwest::Body::wrap_stream(parts)).send();
    let first = tokio::spawn(sending);
    eventually("the upload is under way", async || host.files().len() == 1).await;
    let again = ci.announce("acme-x", "1.0.0").await;
    assert_eq!((again.status, &*sentence(&again)), (409, "this version is being published by another request"));
    go_on.send(()).expect("the upload waits");
    assert_eq!(first.await.expect("no panic").expect("a head").status(), 201);
    assert!(ci.failed("acme-x").await.is_empty());
}

#[tokio::test]
async fn a_form_takes_memory_as_it_arrives_and_a_caller_without_the_right_sends_none() {
    const MIB: u64 = 1 << 20;
    let forge = Forge::start().await;
    let host = start_with(&forge, |config| config.access.rules[1].publish = vec!["token:ci*".into()]).await;
    let ci = Cli::of(&host, "ci-cli").await;
    let memory = host.mirror.cache.memory();
    let mut taken = Vec::new();
    while memory.total_bytes() - memory.taken() > 2 * MIB {
        let mut share = memory.share();
        share.try_grow_to(MIB).expect("free");
        taken.push(share);
    }
    ci.reserve("acme-x", "1.0.0").await;
    let large = "x".repeat(2 << 20);
    let refused = ci.form(&[("publish", &publish_yaml("acme-x", "1.1.0")), ("readme", &large)]).await;
    assert_eq!(refused.status, 503, "{:?}", refused.body);
    drop(taken);

    let reader = Cli::of(&host, "reader-cli").await;
    let mut stream = TcpStream::connect(host.mirror.address).await.expect("connects");
    let signature: String = reader.signature().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "POST /v3/packages/releases HTTP/1.1\r\nHost: {}\r\n{signature}Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
        host.mirror.address
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let answer = timeout(Duration::from_secs(20), rest(&mut stream)).await.expect("an answer without a body");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("do not give this account the right"), "{answer}");
    assert_eq!(ci.failed("acme-x").await, Vec::<Value>::new());
}

#[tokio::test]
async fn without_room_the_first_step_is_503_and_the_notes_of_reservations_are_bounded() {
    let forge = Forge::start().await;
    let full = component("acme-y", "1.0.0");
    let quota = ByteSize(full.len() as u64);
    let host = start_with(&forge, |config| config.hosted.as_mut().expect("a section").quota = quota).await;
    let mut accounts = Vec::new();
    for number in 0..26 {
        accounts.push(Cli::of(&host, &format!("ci-{number}")).await);
    }
    assert_eq!(host.put("acme-y", "1.0.0", full).await.status, 201);
    let refused = accounts[0].announce("acme-x", "1.0.0").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "30"), "{:?}", refused.body);
    assert_eq!(sentence(&refused), "the store of published packages is full");
    let deleted = host.send(Method::DELETE, "/acme-y/zipball/1.0.0", &host.ci, Vec::new(), &[]).await;
    assert_eq!(deleted.status, 200);

    // 16 MiB of notes, of five reservations for each account.
    let longest = "n".repeat(128 << 10);
    let reserve = async |number: usize, notes: &str| {
        let publish = publish_yaml(&format!("acme-{number}"), "1.0.0");
        accounts[number / 5].form(&[("publish", &publish), ("version_body", notes), ("readme", "r")]).await
    };
    for number in 0..128 {
        assert_eq!(reserve(number, &longest).await.status, 200, "{number}");
    }
    let refused = reserve(128, "n").await;
    assert_eq!(
        (refused.status, &*sentence(&refused)),
        (503, "this mirror receives as many uploads as it may at present")
    );
    assert_eq!(reserve(129, "").await.status, 200, "one without notes takes none of them");
    let too_long = reserve(0, &format!("{longest}n")).await;
    assert!(too_long.status == 400 && sentence(&too_long).contains("version.md"), "{:?}", too_long.body);
}

#[tokio::test]
async fn a_failed_publication_is_in_the_list_of_what_is_stored_with_its_reason() {
    let forge = Forge::start().await;
    let host = start(&forge).await;
    let ci = Cli::of(&host, "ci-cli").await;
    for number in 0..22 {
        let name = format!("acme-{number}");
        let url = ci.reserve(&name, "1.0.0").await;
        assert_eq!(upload(&host.mirror.client, &url, b"no zip".to_vec()).await, None);
    }
    assert_eq!(host.put("acme-x", "1.0.0", component("acme-x", "1.0.0")).await.status, 201);
    let list = async |arguments: &[&str]| {
        let listed = Launch::over(&forge, host.mirror.dir(), &[&["cache", "ls"], arguments].concat()).run().await;
        assert_eq!(listed.code, Some(0), "{listed:?}");
        listed.out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let table = list(&[]).await;
    assert!(table[1].starts_with("hosted:acme-x"), "{table:?}");
    assert!(table[2].starts_with("failed  hosted:acme-21@1.0.0  "), "the newest first: {table:?}");
    assert!(table[2].contains("  token:ci-cli: the zip is not published: "), "{table:?}");
    assert_eq!(table.last().map(String::as_str), Some("failed  2 more; --json lists them"));
    let lines = list(&["--json"]).await;
    let rows: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let failed: Vec<&Value> = rows.iter().filter(|row| row["failed_version"] == "1.0.0").collect();
    assert_eq!((rows.len(), failed.len(), failed[0]["package"].as_str()), (23, 22, Some("acme-21")));
    assert_eq!(list(&["hosted:acme-7"]).await.len(), 1);
    assert_eq!(list(&["--limit", "3"]).await.len(), 1 + 1 + 3);
    assert!(list(&["devsapp/*"]).await.is_empty());
}
