//! Views of a zip: making a [`ViewPlan`] from the central directory, and reading ranges of the view.
//!
//! `flat` is the zip without its top folder, `foldered` a zip without one in an added folder, `folder` one folder's part.
//!
//! Compare, for `plan` and `verify` in bytes/s: 500 and 50,000 files (offsets are sorted, so the larger zip may be slower by a
//! logarithm); 500 and 5,000 adversarial records. For ranges: 500 and 50,000 files; the start is found by binary search, then
//! every entry in the range costs the same, which is most per byte when files are empty and names short. A foldered view is
//! longer than its zip, so its bytes are copied; those of a flat view are moved in place.

use std::{hint::black_box, ops::Range};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use srm_mirror::{
    archive::{
        CentralDirectory, ZipFacts, ZipVerifier,
        view::{TopFolder, ViewPlan, ViewSpec},
    },
    origin::{Growing, Verify},
    value::memory_budget::MemoryBudget,
};

use super::{
    PseudoRandom,
    zips::{CompleteZip, ZipShape},
};

fn verifier() -> ZipVerifier {
    ZipVerifier { max_entries: 65_535, max_inflated: 4 << 30, memory: MemoryBudget::unlimited() }
}

/// Plans a view as the server does: reads and hashes the central directory first.
fn make(zip: &CompleteZip, facts: &ZipFacts, spec: &ViewSpec) -> ViewPlan {
    let read = |buf: &mut [u8], offset| zip.read_at(buf, offset).map(drop);
    let central = CentralDirectory::open(facts, zip.0.len() as u64, &mut MemoryBudget::unlimited().share(), read)
        .expect("a directory");
    central.view_plan(spec).expect("possible").expect("a plan")
}

/// Measures the making of a plan; returns the plan and the zip.
fn plan(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, shape: &ZipShape, spec: &ViewSpec) -> (ViewPlan, Bytes) {
    let zip = CompleteZip(shape.build());
    let verified = verifier().verify(&zip).expect("a good zip");
    let facts = ZipFacts::from_value(&verified.facts).expect("the verifier's own facts");
    let offset = facts.directory().expect("recorded").offset;
    group.throughput(Throughput::Bytes(zip.0.len() as u64 - offset));
    group.bench_function(format!("plan, {name}"), |bench| bench.iter(|| make(black_box(&zip), &facts, spec)));
    (make(&zip, &facts, spec), Bytes::from(zip.0))
}

/// Parts of the view, as the server sends them.
fn read(plan: &ViewPlan, zip: &Bytes, mut range: Range<u64>) {
    while range.start < range.end {
        let batch = plan.batch(range.clone());
        let source = batch.source();
        // A buffer of its own, as a read from disk has: it may be changed in place.
        let read = Bytes::copy_from_slice(&zip[source.start as usize..source.end as usize]);
        black_box(batch.assemble(read).expect("complete"));
        range.start = batch.range().end;
    }
}

/// Measures finding and reading ranges at random offsets of the view.
fn ranges(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, (plan, zip): &(ViewPlan, Bytes), len: u64) {
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
            read(plan, zip, black_box(at..at + len));
        });
    });
}

/// Measures the whole verification of a zip, which includes making the plan of its flat view.
fn verify(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, shape: &ZipShape) {
    let zip = CompleteZip(shape.build());
    group.throughput(Throughput::Bytes(zip.0.len() as u64));
    group.bench_function(format!("verify, {name}"), |bench| bench.iter(|| verifier().verify(black_box(&zip)).is_ok()));
}

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("view");
    group.sampling_mode(SamplingMode::Flat);
    let flat = ViewSpec::Flat;
    let foldered = ViewSpec::Foldered { top: TopFolder::of_version("fc3", "0.1.22") };
    let folder = ViewSpec::Folder { path: "src/subcommands".parse().expect("a path"), top: None };
    let plain = |files: usize, name: &str| ZipShape { name: name.to_owned(), data: 0, ..ZipShape::usual(files) };
    for files in [500, 50_000] {
        let usual = ZipShape::usual(files);
        let made = plan(&mut group, &format!("flat, {files} files"), &usual, &flat);
        ranges(&mut group, &format!("flat, {files} files"), &made, 256 << 10);
        plan(&mut group, &format!("folder, {files} files"), &usual, &folder);
        let usual = ZipShape { top: "", ..usual };
        let made = plan(&mut group, &format!("foldered, {files} files"), &usual, &foldered);
        ranges(&mut group, &format!("foldered, {files} files"), &made, 256 << 10);
        let bare = ZipShape { extra: Vec::new(), ..plain(files, "") };
        let made = plan(&mut group, &format!("flat, {files} empty files, short names"), &bare, &flat);
        ranges(&mut group, &format!("flat, {files} empty files, short names"), &made, 16 << 10);
        let bare = ZipShape { top: "", ..bare };
        let made = plan(&mut group, &format!("foldered, {files} empty files, short names"), &bare, &foldered);
        ranges(&mut group, &format!("foldered, {files} empty files, short names"), &made, 16 << 10);
        let reversed = ZipShape { reversed: true, ..plain(files, "src/") };
        plan(&mut group, &format!("flat, {files} files listed backwards"), &reversed, &flat);
        verify(&mut group, &format!("{files} empty files"), &plain(files, "src/"));
    }
    group.sample_size(10);
    for files in [500, 5_000] {
        // Names that differ only at their end, of the largest depth for their length.
        let deep = plain(files, &"a/".repeat(1_000));
        plan(&mut group, &format!("flat, {files} names of 1,000 folders"), &deep, &flat);
        let path = "a/".repeat(500)[..999].parse().expect("a path");
        plan(
            &mut group,
            &format!("folder, {files} names of 1,000 folders"),
            &deep,
            &ViewSpec::Folder { path, top: None },
        );
        verify(&mut group, &format!("{files} names of 1,000 folders"), &deep);
        // 500 empty extra fields, each a step of a search for one of them.
        let extra = ZipShape { extra: [0xfe, 0xca, 0, 0].repeat(500), ..plain(files, "src/") };
        plan(&mut group, &format!("flat, {files} files with 500 extra fields"), &extra, &flat);
    }
    group.finish();
}
