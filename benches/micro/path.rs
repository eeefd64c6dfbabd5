//! Parsing of paths: [`dialect::parse`], the first step of every request.
//!
//! Compare: the adversarial paths of 1 KiB and of 8 KiB with each other, in bytes/s; a path that its first segment decides may
//! be faster when longer, none may be slower. And the plain name with no alias configured, with 100 and with 100,000: a
//! lookup in a tree, which grows with the logarithm.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use http::Method;
use srm_mirror::dialect::{self, Config, NamedUpstream, Names, OfficialRoutes};

fn names(aliases: usize) -> Names {
    let alias = |index| (format!("name-{index}"), format!("owner-{index}/repo"));
    let config = Config {
        default_owner: Some("devsapp".into()),
        aliases: (0..aliases).map(alias).collect(),
        ..Config::default()
    };
    let upstreams = ["github", "gitee"].map(NamedUpstream::forge).to_vec();
    Names::new(&config, &[], upstreams, OfficialRoutes::Off).expect("a valid configuration")
}

/// Measures one path. `good` says whether it parses, so that each bench measures what its name says.
fn one_path(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, names: &Names, path: &str, good: bool) {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    assert_eq!(dialect::parse(names, &Method::GET, path, query).is_ok(), good, "{name}");
    group.throughput(Throughput::Bytes((path.len() + query.map_or(0, str::len)) as u64));
    group.bench_function(name, |bench| {
        bench.iter(|| dialect::parse(names, &Method::GET, black_box(path), black_box(query)).is_ok());
    });
}

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    let few = names(3);
    one_path(&mut group, "srm releases", &few, "/devsapp/fc3/releases/latest", true);
    one_path(&mut group, "srm zipball", &few, "/devsapp/fc3/zipball/v1.0.0", true);
    one_path(&mut group, "github page", &few, "/repos/devsapp/fc3/releases?per_page=100&page=2", true);
    one_path(&mut group, "simple alias", &few, "/simple/name-1/releases/latest", true);
    one_path(&mut group, "v3 search", &few, "/v3/packages/releases?search=fc3&page=2", true);
    one_path(&mut group, "v3 tag, encoded", &few, "/v3/packages/devsapp__fc3/release/tags/v1%2E0%2F0", true);
    for count in [0, 100, 100_000] {
        one_path(&mut group, &format!("plain name, {count} aliases"), &names(count), "/name-7/releases/latest", true);
    }
    for kib in [1, 8] {
        let many = |what: &str| what.repeat((kib << 10) / what.len());
        let adversarial = [
            ("of slashes", many("/"), false),
            // Encoded slashes do not end a segment: this is one long, invalid name.
            ("of %2F", format!("/{}/fc3/releases", many("%2F")), false),
            ("of %41", format!("/devsapp/{}/releases", many("%41")), false),
            ("of % alone at the end", format!("/{}%", many("a")), false),
            ("of %FF, not UTF-8", format!("/{}", many("%FF")), false),
            ("of segments", format!("/devsapp/fc3/zipball{}", many("/a")), false),
            ("of encoded segments", format!("/devsapp/fc3/zipball{}", many("/%61aaaa")), false),
            ("of letters for a name", format!("/{}/releases", many("A")), false),
            ("of underscores in a v3 name", format!("/v3/packages/{}/release", many("_")), false),
            ("of query", format!("/devsapp/fc3/releases?{}", many("page=1&%70age=2&")), true),
        ];
        for (name, path, good) in adversarial {
            one_path(&mut group, &format!("{kib} KiB {name}"), &few, &path, good);
        }
    }
    group.finish();
}
