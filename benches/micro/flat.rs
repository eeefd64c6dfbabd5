//! The zip without its top folder: making its [`Plan`] from a central directory, and reading ranges of it.
//!
//! Compare, for `plan` and `verify` in bytes/s: 500 and 50,000 files (the order of their offsets is sorted, so the larger
//! one may lose a logarithm); 500 and 5,000 adversarial records. For ranges: 500 and 50,000 files, the place is searched for
//! by halves; then every entry in the range costs the same, which is most for a byte when files are empty and names short.

use std::{hint::black_box, ops::Range};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use srm_mirror::{
    archive::{
        Facts, ZipVerifier,
        flat::{Flat, Plan},
    },
    origin::Verify,
};

use super::{
    Places,
    zips::{Kind, Whole},
};

const VERIFIER: ZipVerifier = ZipVerifier { max_entries: 65_535, max_inflated: 4 << 30 };

fn flat(zip: &Whole) -> Flat {
    let verified = VERIFIER.verify(zip).expect("a good zip");
    Facts::from_value(&verified.facts).expect("the verifier's own facts").flat.expect("a flat view")
}

/// Measures how the plan is made; gives it and the zip.
fn plan(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, kind: &Kind) -> (Plan, Bytes) {
    let zip = Whole(kind.build());
    let flat = flat(&zip);
    let zip = Bytes::from(zip.0);
    let tail = zip.slice(flat.central as usize..);
    group.throughput(Throughput::Bytes(tail.len() as u64));
    group.bench_function(format!("plan, {name}"), |bench| {
        bench.iter(|| flat.plan(black_box(tail.clone())).expect("a plan"));
    });
    (flat.plan(tail.clone()).expect("a plan"), zip)
}

/// One batch of the view, as a server sends it (256 KiB at most).
fn read(plan: &Plan, zip: &Bytes, range: Range<u64>) -> Bytes {
    let batch = plan.batch(range);
    let source = batch.source();
    batch.assemble(zip.slice(source.start as usize..source.end as usize)).expect("all there")
}

/// Measures ranges anywhere of the view: where they are, and what they are.
fn ranges(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, (plan, zip): &(Plan, Bytes), len: u64) {
    let mut places = Places(7);
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("100 bytes anywhere, {name}"), |bench| {
        bench.iter(|| {
            let at = places.below(plan.len() - 100);
            plan.slices(black_box(at..at + 100)).count()
        });
    });
    group.throughput(Throughput::Bytes(len));
    group.bench_function(format!("{} KiB anywhere, {name}", len >> 10), |bench| {
        bench.iter(|| {
            let at = places.below(plan.len() - len);
            read(plan, zip, black_box(at..at + len))
        });
    });
}

/// Measures the whole verdict on a zip, in which the first plan is made and all of the view is hashed.
fn verify(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, kind: &Kind) {
    let zip = Whole(kind.build());
    group.throughput(Throughput::Bytes(zip.0.len() as u64));
    group.bench_function(format!("verify, {name}"), |bench| bench.iter(|| VERIFIER.verify(black_box(&zip)).is_ok()));
}

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flat");
    group.sampling_mode(SamplingMode::Flat);
    let plain = |files: usize, name: &str| Kind { name: name.to_owned(), data: 0, ..Kind::usual(files) };
    for files in [500, 50_000] {
        let made = plan(&mut group, &format!("{files} files"), &Kind::usual(files));
        ranges(&mut group, &format!("{files} files"), &made, 256 << 10);
        let bare = Kind { extra: Vec::new(), ..plain(files, "") };
        let made = plan(&mut group, &format!("{files} empty files, short names"), &bare);
        ranges(&mut group, &format!("{files} empty files, short names"), &made, 16 << 10);
        let reversed = Kind { reversed: true, ..plain(files, "src/") };
        plan(&mut group, &format!("{files} files listed backwards"), &reversed);
        verify(&mut group, &format!("{files} empty files"), &plain(files, "src/"));
    }
    group.sample_size(10);
    for files in [500, 5_000] {
        // Names that differ at their end alone, and are as deep as names of this length can be.
        let deep = plain(files, &"a/".repeat(1_000));
        plan(&mut group, &format!("{files} names of 1,000 folders"), &deep);
        verify(&mut group, &format!("{files} names of 1,000 folders"), &deep);
        // 500 extra fields without content, each a step for whoever looks for one.
        let extra = Kind { extra: [0xfe, 0xca, 0, 0].repeat(500), ..plain(files, "src/") };
        plan(&mut group, &format!("{files} files with 500 extra fields"), &extra);
    }
    group.finish();
}
