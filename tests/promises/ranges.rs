//! Ranges and conditional requests, for a stored zip and for one that is still arriving.

use bytes::Bytes;
use srm_mirror::entry::Digest;

use crate::{
    forge::{Fault, Forge, Lengths},
    mirror::{Mirror, TestResponse},
    zips::{Drink, PACKAGE, TAG, ZIP, blobs, eventually, forge, len, sha256, zip_requests, zips},
};

const MIB: u64 = 1 << 20;

struct Stored {
    forge: Forge,
    mirror: Mirror,
    bytes: Bytes,
    etag: String,
}

/// Two sizes: one for the memory cache, one read from disk.
async fn stored(size: u64) -> Stored {
    let forge = forge(Lengths::Never, |r| r.stored().big(size)).await;
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    eventually("stored", || blobs(mirror.dir()) == 1 && mirror.cache.archives().running_fills() == 0).await;
    let bytes = forge.zip_bytes(PACKAGE, TAG);
    let etag = format!("\"{}\"", sha256(&forge));
    Stored { forge, mirror, bytes, etag }
}

fn complete(got: &TestResponse, stored: &Stored) {
    assert_eq!(got.header("etag"), stored.etag);
    assert_eq!(got.header("accept-ranges"), "bytes");
    // RFC 9530 §3: in an error it would be that of the error.
    match got.status {
        200..300 => assert_eq!(got.repr_digest(), Digest::of(&stored.bytes).0),
        _ => assert_eq!(got.header("repr-digest"), ""),
    }
    assert!(got.header("age").parse::<u64>().is_ok_and(|age| age < 60), "{}", got.header("age"));
    // A shared cache that stored a 412 or 416 would send it to every client.
    let kept = if got.status < 400 { "public, max-age=31536000, immutable" } else { "no-store" };
    assert_eq!(got.header("cache-control"), kept);
    assert!(got.cache_status().starts_with("srm-mirror; hit"), "{}", got.cache_status());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_range_of_a_stored_zip_is_that_part_and_anything_else_the_whole() {
    for size in [1000, 3 * MIB] {
        let stored = stored(size).await;
        let len = stored.bytes.len();
        let last = len - 1;
        let part = |from: usize, to: usize| (206, from..to, format!("bytes {from}-{}/{len}", to - 1));
        let whole = || (200, 0..len, String::new());
        let unsatisfiable = || (416, 0..0, format!("bytes */{len}"));
        let table = [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-99", part(0, 100)),
            ("bytes=100-", part(100, len)),
            ("bytes=-100", part(len - 100, len)),
            ("bytes=0-", part(0, len)),
            ("BYTES=5-6", part(5, 7)),
            ("bytes= 5-6", part(5, 7)),
            (&format!("bytes=10-{}", len + 1000), part(10, len)),
            (&format!("bytes={last}-"), part(last, len)),
            (&format!("bytes=-{}", len + 1), part(0, len)),
            ("bytes=0-99999999999999999999999", part(0, len)),
            (&format!("bytes={len}-"), unsatisfiable()),
            ("bytes=99999999999999999999999-", unsatisfiable()),
            ("bytes=-0", unsatisfiable()),
            ("bytes=0-1,5-6", whole()),
            ("bytes=5-4", whole()),
            ("bytes=a-b", whole()),
            ("bytes=--1", whole()),
            ("bytes=", whole()),
            ("lines=0-1", whole()),
            ("0-1", whole()),
        ];
        for (range, (status, bytes, content_range)) in table {
            let got = stored.mirror.get_with(ZIP, &[("range", range)]).await;
            assert_eq!((got.status, got.header("content-range")), (status, &*content_range), "{range}");
            assert!(got.body == stored.bytes.slice(bytes.clone()), "{range}: other bytes");
            assert_eq!(got.header("content-length"), bytes.len().to_string(), "{range}");
            complete(&got, &stored);
        }
        // Range is defined for GET only (RFC 9110 §14.2): HEAD has the headers of the whole.
        let head = stored.mirror.request(reqwest::Method::HEAD, ZIP, &[("range", "bytes=0-1")]).await.expect("a head");
        assert_eq!((head.status, head.header("content-length")), (200, &*len.to_string()));
        complete(&head, &stored);
        assert_eq!(zip_requests(&stored.forge), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_on_a_stored_zip_hold_as_rfc_9110_says() {
    let stored = stored(1000).await;
    let etag = stored.etag.clone();
    let weak = format!("W/{etag}");
    let other = "\"other\"".to_owned();
    let list = format!("\"a\", {etag}");
    let range = ("range", "bytes=0-9");
    let table: Vec<(Vec<(&str, &str)>, u16)> = vec![
        (vec![("if-none-match", &etag)], 304),
        (vec![("if-none-match", &weak)], 304),
        (vec![("if-none-match", &list)], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", &other)], 200),
        (vec![("if-none-match", &etag), range], 304),
        (vec![("if-match", &etag)], 200),
        (vec![("if-match", "*")], 200),
        (vec![("if-match", &weak)], 412),
        (vec![("if-match", &other)], 412),
        (vec![("if-match", &etag), range], 206),
        (vec![("if-match", &other), range], 412),
        (vec![("if-range", &etag), range], 206),
        (vec![("if-range", &weak), range], 200),
        (vec![("if-range", &other), range], 200),
        (vec![("if-range", "Sat, 21 Nov 2026 00:00:00 GMT"), range], 200),
        (vec![("if-range", &etag)], 200),
        (vec![("if-modified-since", "Sat, 21 Nov 2099 00:00:00 GMT")], 200),
        (vec![("if-unmodified-since", "Sat, 21 Nov 1999 00:00:00 GMT")], 200),
    ];
    for method in [reqwest::Method::GET, reqwest::Method::HEAD] {
        for (headers, status) in &table {
            let got = stored.mirror.request(method.clone(), ZIP, headers).await.expect("an answer");
            let status = if method == reqwest::Method::HEAD && *status == 206 { 200 } else { *status };
            assert_eq!(got.status, status, "{method} {headers:?}");
            complete(&got, &stored);
            let body = match (status, &method) {
                (_, &reqwest::Method::HEAD) | (304 | 412, _) => 0..0,
                (206, _) => 0..10,
                _ => 0..stored.bytes.len(),
            };
            assert!(got.body == stored.bytes.slice(body), "{method} {headers:?}");
            assert_eq!(got.header("connection") == "close", status == 412, "{method} {headers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_an_arriving_zip_of_known_length_is_served_at_once() {
    let forge = forge(Lengths::Always, |r| r.stored().big(4 * MIB)).await;
    let bytes = forge.zip_bytes(PACKAGE, TAG);
    let whole = len(&forge);
    let gate = forge.gate(zips(), 2 * MIB);
    let mirror = Mirror::over(&forge).await;
    let open = |range: String| mirror.client.get(mirror.url(ZIP)).header("range", range).send();
    let first = open("bytes=1000-1999999".into()).await.expect("a head");
    let suffix = open("bytes=-100".into()).await.expect("a head");
    let beyond = open(format!("bytes={whole}-")).await.expect("a head");
    let several = open("bytes=0-1,5-6".into()).await.expect("a head");
    let conditional = mirror.client.get(mirror.url(ZIP)).header("range", "bytes=0-9");
    let etag = format!("\"{}\"", sha256(&forge));
    let conditional = conditional.header("if-range", &etag).send().await.expect("a head");
    let unmatched = mirror.client.get(mirror.url(ZIP)).header("if-match", &etag).send().await.expect("a head");
    // The gate is still closed: all these heads belong to a zip that is arriving.
    let heads = [&first, &suffix, &beyond, &several, &conditional, &unmatched];
    assert_eq!(heads.map(|head| head.status().as_u16()), [206, 206, 416, 200, 200, 412]);
    for head in heads {
        for absent in ["etag", "repr-digest", "age"] {
            assert!(!head.headers().contains_key(absent), "{absent} before the end");
        }
    }
    let content_range = |head: &reqwest::Response| head.headers()["content-range"].to_str().expect("text").to_owned();
    assert_eq!(content_range(&first), format!("bytes 1000-1999999/{whole}"));
    assert_eq!(content_range(&suffix), format!("bytes {}-{}/{whole}", whole - 100, whole - 1));
    assert_eq!(content_range(&beyond), format!("bytes */{whole}"));
    assert_eq!(first.content_length(), Some(1_999_000));
    // The range streams before the second half of the zip arrives.
    let mut first = Drink::of(first);
    first.until(1_990_000).await;
    gate.open();
    first.end().await.expect("whole");
    assert_eq!(first.read, 1_999_000);
    assert!(suffix.bytes().await.expect("whole") == bytes.slice(bytes.len() - 100..));
    assert!(several.bytes().await.expect("whole") == bytes);
    assert!(conditional.bytes().await.expect("whole") == bytes);
    assert_eq!(zip_requests(&forge), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_an_arriving_zip_of_unknown_length_waits_for_the_end() {
    let forge = forge(Lengths::Never, |r| r.stored().big(4 * MIB)).await;
    let bytes = forge.zip_bytes(PACKAGE, TAG);
    let gate = forge.gate(zips(), 2 * MIB);
    let mirror = Mirror::over(&forge).await;
    let mut part = tokio::spawn(mirror.client.get(mirror.url(ZIP)).header("range", "bytes=5-9").send());
    let mut other = Drink::of(mirror.open(ZIP).await);
    other.until(MIB).await;
    gate.reached().await;
    assert!(!part.is_finished());
    gate.open();
    let part = (&mut part).await.expect("no panic").expect("a head");
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 5-9/{}", bytes.len()));
    assert_eq!(part.headers()["etag"], format!("\"{}\"", sha256(&forge)));
    assert!(part.bytes().await.expect("whole") == bytes.slice(5..10));
    assert_eq!(other.end().await.expect("whole"), sha256(&forge));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_bad_zip_never_completes() {
    for lengths in [Lengths::Always, Lengths::Never] {
        let forge = forge(lengths, |r| r.stored().wrong_crc().big(4 * MIB)).await;
        for range in ["bytes=0-0", "bytes=0-99999", "bytes=-10", "bytes=3000000-"] {
            let mirror = Mirror::over(&forge).await;
            let got = mirror.request(reqwest::Method::GET, ZIP, &[("range", range)]).await;
            assert!(got.as_ref().map_or(true, |got| got.status == 502), "{lengths:?} {range}: {got:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_not_complete_before_the_whole_zip_is_verified() {
    for (range, len) in [("bytes=0-0", 1), ("bytes=0-99999", 100_000), ("bytes=1000000-1999999", 1_000_000)] {
        let forge = forge(Lengths::Always, |r| r.stored().big(4 * MIB)).await;
        forge.fault(zips(), Fault::WrongBytesAt(3 * MIB));
        let gate = forge.gate(zips(), 2 * MIB);
        let mirror = Mirror::over(&forge).await;
        let part = mirror.client.get(mirror.url(ZIP)).header("range", range).send().await.expect("a head");
        assert_eq!(part.status(), 206);
        // The whole range has arrived; all but its last bytes is sent.
        gate.reached().await;
        let mut part = Drink::of(part);
        part.until(u64::saturating_sub(len, 64)).await;
        gate.open();
        part.end().await.expect_err("a broken connection");
        assert!(part.read < len);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_on_a_miss_starts_the_fill_and_does_not_wait_for_its_end() {
    for lengths in [Lengths::Always, Lengths::Never] {
        let forge = forge(lengths, |r| r.stored().big(4 * MIB)).await;
        let gate = forge.gate(zips(), 2 * MIB);
        let mirror = Mirror::over(&forge).await;
        let head = mirror.head(ZIP).await;
        assert_eq!((head.status, head.header("content-type")), (200, "application/zip"));
        let announced = if lengths == Lengths::Always { len(&forge).to_string() } else { String::new() };
        assert_eq!(head.header("content-length"), announced);
        assert_eq!(head.header("etag"), "");
        gate.open();
        eventually("stored", || blobs(mirror.dir()) == 1 && mirror.cache.archives().running_fills() == 0).await;
        let head = mirror.head(ZIP).await;
        let got = mirror.get(ZIP).await;
        assert_eq!(zip_requests(&forge), 1);
        for name in ["content-type", "content-length", "etag", "accept-ranges", "repr-digest", "cache-control"] {
            assert_eq!(head.header(name), got.header(name), "{name}");
        }
        assert_eq!(head.header("content-disposition"), got.header("content-disposition"));
        assert!(head.body.is_empty());
    }
}
