//! Decisions on header fields: [`range::decide`] and [`conditional::decide`], for every response that has a body.
//!
//! Compare: the adversarial fields of 1 KiB and of 64 KiB with each other, in bytes/s. A field that its first bytes decide
//! (`two ranges and more`) is faster when longer. A tag at the end of the list costs as much as one that is not in the list: 10
//! and 1,000 tags, in tags/s.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use http::{HeaderMap, HeaderName, Method, header};
use srm_mirror::{
    entry::Digest,
    http::{
        conditional::{self, Precondition},
        range::{self, RangeDecision},
    },
};

/// Length of the requested zip.
const ZIP_BYTES: u64 = 10 << 20;

fn field(name: HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, value.parse().expect("a field value"))])
}

fn tag(index: usize) -> String {
    format!("\"{}\"", Digest::of(&index.to_le_bytes()))
}

fn one_range(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, value: &str, expected: RangeDecision) {
    let mut headers = field(header::RANGE, value);
    let etag = tag(0);
    headers.insert(header::IF_RANGE, etag.parse().expect("a field value"));
    assert_eq!(range::decide(&headers, &Method::GET, ZIP_BYTES, Some(&etag)), expected, "{name}");
    group.throughput(Throughput::Bytes(value.len() as u64));
    group.bench_function(name, |bench| {
        bench.iter(|| range::decide(black_box(&headers), &Method::GET, ZIP_BYTES, Some(&etag)));
    });
}

fn one_list(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, value: &str, expected: Precondition) {
    let headers = field(header::IF_NONE_MATCH, value);
    let etag = tag(0);
    assert_eq!(conditional::decide(&headers, &Method::GET, Some(&etag)), expected, "{name}");
    group.bench_function(name, |bench| {
        bench.iter(|| conditional::decide(black_box(&headers), &Method::GET, Some(&etag)));
    });
}

pub(super) fn bench(criterion: &mut Criterion) {
    use RangeDecision::{Part, Unsatisfiable, Whole};
    let mut group = criterion.benchmark_group("range");
    one_range(&mut group, "first hundred", "bytes=0-99", Part { first: 0, last: 99 });
    one_range(&mut group, "from the middle", "bytes=5000000-", Part { first: 5_000_000, last: ZIP_BYTES - 1 });
    one_range(&mut group, "suffix", "bytes=-500", Part { first: ZIP_BYTES - 500, last: ZIP_BYTES - 1 });
    one_range(&mut group, "huge numbers", &format!("bytes={0}-{0}", u128::MAX), Unsatisfiable);
    for kib in [1, 64] {
        let many = |what: &str| what.repeat((kib << 10) / what.len());
        let adversarial = [
            ("of commas", format!("bytes={}", many(",")), Whole),
            ("of commas, then a range", format!("bytes={}0-99", many(", ")), Part { first: 0, last: 99 }),
            ("of digits", format!("bytes={}-", many("9")), Unsatisfiable),
            ("of zeros", format!("bytes=-{}1", many("0")), Part { first: ZIP_BYTES - 1, last: ZIP_BYTES - 1 }),
            ("of two ranges and more", format!("bytes={}", many("0-0,")), Whole),
        ];
        for (name, value, expected) in adversarial {
            one_range(&mut group, &format!("{kib} KiB {name}"), &value, expected);
        }
    }
    group.finish();

    use Precondition::{NotModified, Proceed};
    let mut group = criterion.benchmark_group("conditional");
    for count in [1, 10, 1_000] {
        let list = |from: usize| (from..from + count).rev().map(tag).collect::<Vec<_>>().join(", ");
        group.throughput(Throughput::Elements(count as u64));
        one_list(&mut group, &format!("{count} tags, the last one matches"), &list(0), NotModified);
        one_list(&mut group, &format!("{count} tags, none matches"), &list(1), Proceed);
    }
    for kib in [1, 64] {
        let many = |what: &str| what.repeat((kib << 10) / what.len());
        group.throughput(Throughput::Bytes((kib << 10) as u64));
        let adversarial = [
            ("of commas", many(",")),
            ("of invalid tags", many("W/,")),
            ("of quotes", many("\"")),
            ("in an unclosed quote", format!("\"{}", many("W/x,"))),
            ("of empty weak tags", many("W/\"\"")),
        ];
        for (name, value) in adversarial {
            one_list(&mut group, &format!("{kib} KiB {name}"), &value, Proceed);
        }
    }
    group.finish();
}
