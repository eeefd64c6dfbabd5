//! Lookups in the memory tier: [`Memory::get`] and [`MemoryDocuments::get`], which decide whether a request is a hit.
//!
//! Compare: 100, 10,000 and 100,000 entries, hit with hit and miss with miss. A lookup needs no more steps in a larger table,
//! but the table and its entries leave the processor's caches, and the order of lookups is random: a thousand times the
//! entries may take ten times as long. The key is hashed, so a key of 1,000 bytes that differs from the others only at its end
//! costs its length and no more: compare it with the 10,000 entries of short keys.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use jiff::Timestamp;
use srm_mirror::{
    entry::{Digest, Document, DocumentMeta, Key, Meta, UpstreamStatus, Validators, Verified},
    storage::{
        Object, ObjectContent,
        memory::{Config, Memory, MemoryDocuments},
    },
    value::{ByteSize, memory_budget::MemoryBudget},
};

use super::PseudoRandom;

/// Large enough that nothing is evicted.
const CONFIG: Config =
    Config { limit: None, documents: ByteSize::gib(1), archives: ByteSize::gib(1), archive_max: ByteSize::mib(1) };

fn object() -> Object {
    let body = Bytes::from_static(b"PK\x05\x06");
    let digest = Digest::of(&body);
    let verified = Verified { manifest: digest, commit: None, facts: serde_json::Value::Null };
    let meta = Meta { digest, len: body.len() as u64, stored_at: Timestamp::UNIX_EPOCH, anonymous: true, verified };
    Object { meta: Arc::new(meta), content: ObjectContent::Memory(body), tier: "memory", usage: None }
}

fn document() -> Document {
    let body = Bytes::from_static(b"[]");
    let meta = DocumentMeta {
        digest: Digest::of(&body),
        validated_at: Timestamp::UNIX_EPOCH,
        changed_at: Timestamp::UNIX_EPOCH,
        validators: Validators::default(),
        upstream_status: UpstreamStatus::Present,
    };
    Document { meta: Arc::new(meta), body }
}

/// Keys of the mirror's form, with `filler` in them: `stored` to be stored, and as many that are not.
fn keys(stored: usize, filler: &str) -> (Vec<Key>, Vec<Key>) {
    let key =
        |index: usize| Key::new(format!("github/devsapp/{filler}package-{}/tag/v1.0.{}", index / 100, index % 100));
    ((0..stored).map(key).collect(), (stored..2 * stored).map(key).collect())
}

/// Measures lookups of these keys in random order.
fn lookups(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    keys: &[Key],
    found: bool,
    finds: impl Fn(&Key) -> bool,
) {
    assert!(keys.iter().all(|key| finds(key) == found), "{name}");
    let mut random = PseudoRandom(7);
    group.bench_function(name, |bench| {
        bench.iter(|| finds(black_box(&keys[random.below(keys.len() as u64) as usize])));
    });
}

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    let long = "x".repeat(1_000);
    for (count, filler, what) in
        [(100, "", "100"), (10_000, "", "10,000"), (100_000, "", "100,000"), (10_000, &*long, "10,000 long keys")]
    {
        let (stored, absent) = keys(count, filler);
        let archives = Memory::new(&CONFIG, MemoryBudget::unlimited());
        let object = object();
        for key in &stored {
            archives.insert(key, object.clone());
        }
        lookups(&mut group, &format!("zip hit, {what}"), &stored, true, |key| archives.get(key).is_some());
        lookups(&mut group, &format!("zip miss, {what}"), &absent, false, |key| archives.get(key).is_some());
        drop(archives);
        let documents = MemoryDocuments::new(&CONFIG);
        let document = document();
        stored.iter().for_each(|key| documents.put(key, document.clone()));
        lookups(&mut group, &format!("document hit, {what}"), &stored, true, |key| documents.get(key).is_some());
        lookups(&mut group, &format!("document miss, {what}"), &absent, false, |key| documents.get(key).is_some());
    }
    group.finish();
}
