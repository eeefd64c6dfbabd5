//! The zip without its top folder: making its [`FlatPlan`] from a central directory, and reading ranges of it.
//!
//! Compare, for `plan` and `verify` in bytes/s: 500 and 50,000 files (offsets are sorted, so the larger zip may be slower by a
//! logarithm); 500 and 5,000 adversarial records. For ranges: 500 and 50,000 files; the start is found by binary search, then
//! every entry in the range costs the same, which is most per byte when files are empty and names short.

use std::{hint::black_box, ops::Range};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use srm_mirror::{
    archive::{
        ZipFacts, ZipVerifier,
        flat::{FlatPlan, FlatView},
    },
    origin::Verify,
};

use super::{
    PseudoRandom,
    zips::{CompleteZip, ZipShape},
};

const VERIFIER: ZipVerifier = ZipVerifier { max_entries: 65_535, max_inflated: 4 << 30 };

fn flat(zip: &CompleteZip) -> FlatView {
    let verified = VERIFIER.verify(zip).expect("a good zip");
    ZipFacts::from_value(&verified.facts).expect("the verifier's own facts").flat.expect("a flat view")
}

/// Measures the making of a plan; returns the plan and the zip.
fn plan(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, shape: &ZipShape) -> (FlatPlan, Bytes) {
    let zip = CompleteZip(shape.build());
    let flat = flat(&zip);
    let zip = Bytes::from(zip.0);
    let tail = zip.slice(flat.central as usize..);
    group.throughput(Throughput::Bytes(tail.len() as u64));
    group.bench_function(format!("plan, {name}"), |bench| {
        bench.iter(|| flat.plan(black_box(tail.clone())).expect("a plan"));
    });
    (flat.plan(tail.clone()).expect("a plan"), zip)
}

/// One batch of the view, at most 256 KiB, as the server sends it.
fn read(plan: &FlatPlan, zip: &Bytes, range: Range<u64>) -> Bytes {
    let batch = plan.batch(range);
    let source = batch.source();
    batch.assemble(zip.slice(source.start as usize..source.end as usize)).expect("complete")
}

/// Measures finding and reading ranges at random offsets of the view.
fn ranges(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, (plan, zip): &(FlatPlan, Bytes), len: u64) {
    let mut random = PseudoRandom(7);
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("100 bytes anywhere, {name}"), |bench| {
        bench.iter(|| {
            let at = random.below(plan.len() - 100);
            plan.slices(black_box(at..at + 100)).count()
        });
    });
    group.throughput(Throughput::Bytes(len));
    group.bench_function(format!("{} KiB anywhere, {name}", len >> 10), |bench| {
        bench.iter(|| {
            let at = random.below(plan.len() - len);
            read(plan, zip, black_box(at..at + len))
        });
    });
}

/// Measures the whole verification of a zip, which includes making the plan and hashing the view.
fn verify(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, shape: &ZipShape) {
    let zip = CompleteZip(shape.build());
    group.throughput(Throughput::Bytes(zip.0.len() as u64));
    group.bench_function(format!("verify, {name}"), |bench| bench.iter(|| VERIFIER.verify(black_box(&zip)).is_ok()));
}

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flat");
    group.sampling_mode(SamplingMode::Flat);
    let plain = |files: usize, name: &str| ZipShape { name: name.to_owned(), data: 0, ..ZipShape::usual(files) };
    for files in [500, 50_000] {
        let made = plan(&mut group, &format!("{files} files"), &ZipShape::usual(files));
        ranges(&mut group, &format!("{files} files"), &made, 256 << 10);
        let bare = ZipShape { extra: Vec::new(), ..plain(files, "") };
        let made = plan(&mut group, &format!("{files} empty files, short names"), &bare);
        ranges(&mut group, &format!("{files} empty files, short names"), &made, 16 << 10);
        let reversed = ZipShape { reversed: true, ..plain(files, "src/") };
        plan(&mut group, &format!("{files} files listed backwards"), &reversed);
        verify(&mut group, &format!("{files} empty files"), &plain(files, "src/"));
    }
    group.sample_size(10);
    for files in [500, 5_000] {
        // Names that differ only at their end, of the largest depth for their length.
        let deep = plain(files, &"a/".repeat(1_000));
        plan(&mut group, &format!("{files} names of 1,000 folders"), &deep);
        verify(&mut group, &format!("{files} names of 1,000 folders"), &deep);
        // 500 empty extra fields, each a step of a search for one of them.
        let extra = ZipShape { extra: [0xfe, 0xca, 0, 0].repeat(500), ..plain(files, "src/") };
        plan(&mut group, &format!("{files} files with 500 extra fields"), &extra);
    }
    group.finish();
}
