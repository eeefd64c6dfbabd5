//! Documents that arrive compressed: decoded within the limits, and refused when they are damaged.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("in memory")
}

fn compressed(value: &serde_json::Value) -> Reply {
    Reply::new(200).with("content-type", "application/json").with("content-encoding", "gzip").body(gzip(&json(value)))
}

fn json(value: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

fn list(count: usize) -> serde_json::Value {
    (0..count).map(|number| release(&format!("v{number}"))).collect()
}

fn limited(server: &Server, limit: u64) -> Arc<dyn Upstream> {
    anonymous(&Config { document_limit: ByteSize(limit), ..config(UpstreamKind::Github, &server.base()) })
}

#[tokio::test]
async fn a_list_is_asked_for_with_gzip_and_keeps_its_validators() {
    let server = Server::start(|seen| match seen.header("if-none-match") {
        Some("W/\"one\"") => Reply::new(304),
        _ => compressed(&list(3)).with("etag", "W/\"one\""),
    })
    .await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let first = stored(ask(&upstream, DocumentAsk::Releases, None).await.expect("a list"));
    assert_eq!(tags(&first), ["v0", "v1", "v2"]);
    let again = ask(&upstream, DocumentAsk::Releases, Some(&first)).await.expect("unchanged");
    assert!(matches!(again, FetchedDocument::NotModified { .. }), "{again:?}");
    assert!(server.seen().iter().all(|seen| seen.header("accept-encoding") == Some("gzip")));
}

#[tokio::test]
async fn a_zip_is_never_asked_for_with_gzip() {
    let server = Server::start(|_| Reply::zip()).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    zip(&upstream, tag("v1")).await.expect("a zip");
    assert_eq!(server.seen()[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn the_limit_counts_the_decoded_bytes_and_those_that_arrive() {
    let whole = json(&list(100));
    let fits = whole.len() as u64;
    let server = Server::start(|_| compressed(&list(100))).await;
    let lists = ask(&limited(&server, fits), DocumentAsk::Releases, None).await.expect("exactly the limit");
    assert_eq!(tags(&stored(lists)).len(), 100);
    let error_of =
        async |server: &Server, limit| error(ask(&limited(server, limit), DocumentAsk::Releases, None).await);
    assert_eq!(error_of(&server, fits - 1).await, FetchError::DocumentTooLarge { limit: fits - 1 });
    // A thousandth of the limit compressed, and ten times the limit decoded.
    let bomb = gzip(&vec![b' '; 40 << 20]);
    let server = Server::start(move |_| Reply::new(200).with("content-encoding", "gzip").body(bomb.clone())).await;
    assert_eq!(error_of(&server, 4 << 20).await, FetchError::DocumentTooLarge { limit: 4 << 20 });
    // Empty members decode to nothing.
    let nothing = gzip(b"").repeat(1000);
    let unsized_reply = move |_: &RecordedRequest| {
        Reply { sized: false, ..Reply::new(200).body(nothing.clone()) }.with("content-encoding", "gzip")
    };
    let server = Server::start(unsized_reply).await;
    assert_eq!(error_of(&server, 10_000).await, FetchError::DocumentTooLarge { limit: 10_000 });
}

#[tokio::test]
async fn a_damaged_compressed_list_is_invalid_and_none_of_it_is_used() {
    let whole = gzip(&json(&list(50)));
    let cut = whole[..whole.len() - 1].to_vec();
    let mut wrong = whole.clone();
    let at = wrong.len() - 6;
    wrong[at] ^= 1;
    for (what, body) in [
        ("cut", cut),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("wrong checksum", wrong),
        ("trailing garbage", [&whole[..], b"garbage"].concat()),
        ("a second list", [&whole[..], &gzip(&json(&list(2)))[..]].concat()),
        ("plain", json(&list(2))),
        ("empty", Vec::new()),
    ] {
        let server = Server::start(move |_| Reply::new(200).with("content-encoding", "gzip").body(body.clone())).await;
        let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
        let error = error(ask(&upstream, DocumentAsk::Releases, None).await);
        assert!(matches!(error, FetchError::Invalid(_)), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn the_text_of_a_compressed_error_is_read() {
    let message = br#"{"message": "You have exceeded a secondary rate limit."}"#;
    let reply = Reply::new(403).with("content-encoding", "gzip").body(gzip(message));
    let server = Server::start(move |_| reply.clone()).await;
    let upstream = anonymous(&config(UpstreamKind::Github, &server.base()));
    let error = error(ask(&upstream, DocumentAsk::Latest, None).await);
    assert!(matches!(error, FetchError::Throttled { .. }), "{error:?}");
}
