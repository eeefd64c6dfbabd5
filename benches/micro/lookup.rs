//! From a key to what is in memory: [`Memory::find`] and [`Documents::get`], which decide whether a request is a hit.
//!
//! Compare: 100, 10,000 and 100,000 entries, hit with hit and miss with miss. The table needs no more steps, but it and the
//! entries leave the processor's caches, and they are looked at in an order without a pattern: a thousand times the entries
//! may take ten times as long. The key is hashed, so one of 1,000 bytes that differs from the others only in its last ones
//! costs its length and no more: compare it with the 10,000 entries of short keys.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use jiff::Timestamp;
use srm_mirror::{
    entry::{Digest, Document, DocumentMeta, Key, Meta, UpstreamStatus, Validators, Verified},
    storage::{
        Content, Object,
        memory::{Config, Documents, Memory},
    },
    value::ByteSize,
};

use super::Places;

/// Room for everything: what is measured is a look, not an eviction.
const CONFIG: Config =
    Config { documents: ByteSize::gib(1), archives: ByteSize::gib(1), archive_max: ByteSize::mib(1) };

fn object() -> Object {
    let body = Bytes::from_static(b"PK\x05\x06");
    let digest = Digest::of(&body);
    let verified = Verified { manifest: digest, commit: None, facts: serde_json::Value::Null };
    let meta = Meta { digest, len: body.len() as u64, stored_at: Timestamp::UNIX_EPOCH, anonymous: true, verified };
    Object { meta: Arc::new(meta), content: Content::Memory(body), tier: "memory", uses: None }
}

fn document() -> Document {
    let body = Bytes::from_static(b"[]");
    let meta = DocumentMeta {
        digest: Digest::of(&body),
        validated_at: Timestamp::UNIX_EPOCH,
        changed_at: Timestamp::UNIX_EPOCH,
        validators: Validators::default(),
        standing: UpstreamStatus::Present,
    };
    Document { meta: Arc::new(meta), body }
}

/// Keys as the mirror makes them, with `filler` in them: `kept` of them are put, as many others are not.
fn keys(kept: usize, filler: &str) -> (Vec<Key>, Vec<Key>) {
    let key =
        |index: usize| Key::new(format!("github/devsapp/{filler}package-{}/tag/v1.0.{}", index / 100, index % 100));
    ((0..kept).map(key).collect(), (kept..2 * kept).map(key).collect())
}

/// Measures looks for these keys in an order without a pattern.
fn looks(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, keys: &[Key], found: bool, look: impl Fn(&Key) -> bool) {
    // What was put last may still be on its way into the table's records, never out of sight.
    assert!(keys.iter().all(|key| look(key) == found), "{name}");
    let mut places = Places(7);
    group.bench_function(name, |bench| {
        bench.iter(|| look(black_box(&keys[places.below(keys.len() as u64) as usize])));
    });
}

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    let long = "x".repeat(1_000);
    for (count, filler, what) in
        [(100, "", "100"), (10_000, "", "10,000"), (100_000, "", "100,000"), (10_000, &*long, "10,000 long keys")]
    {
        let (kept, others) = keys(count, filler);
        let archives = Memory::new(&CONFIG);
        let object = object();
        for key in &kept {
            archives.insert(key, object.clone());
        }
        looks(&mut group, &format!("zip hit, {what}"), &kept, true, |key| archives.find(key).is_some());
        looks(&mut group, &format!("zip miss, {what}"), &others, false, |key| archives.find(key).is_some());
        drop(archives);
        let documents = Documents::new(&CONFIG);
        let document = document();
        kept.iter().for_each(|key| documents.put(key, document.clone()));
        looks(&mut group, &format!("document hit, {what}"), &kept, true, |key| documents.get(key).is_some());
        looks(&mut group, &format!("document miss, {what}"), &others, false, |key| documents.get(key).is_some());
    }
    group.finish();
}
