//! Rendering of releases as JSON: [`Renderer`], for every document that the response cache does not hold.
//!
//! Compare, in bytes of JSON/s: 1, 30 and 500 releases of one dialect with each other; notes in which every character is
//! escaped, 4 KiB and 64 KiB per release (a control character becomes six bytes, a quote two); a release with 100 and with
//! 10,000 unknown fields, which the mirror shows in GitHub's order.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use srm_mirror::{
    dialect::{ApiRoot, Config, Dialect, NamedUpstream, Names, OfficialRoutes, PackageId},
    package::{Asset, Release},
    service::render::Renderer,
};

const GITHUB: Dialect = Dialect::Github(ApiRoot::Plain);

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("not an object"),
    }
}

/// A release as a forge describes it, with these notes.
fn release(index: usize, notes: &str) -> Release {
    let author = json!({ "login": "octo", "id": 7, "node_id": "U_7", "type": "User", "site_admin": false });
    let asset = Asset {
        name: Some("fc3.tar.gz".into()),
        size: Some(1234),
        content_type: Some("application/gzip".into()),
        browser_download_url: Some(format!("https://github.com/devsapp/fc3/releases/download/v1.0.{index}/fc3.tar.gz")),
        digest: Some(format!("sha256:{}", "e3b0c442".repeat(8))),
        rest: map(
            json!({ "id": index, "node_id": "RA_5", "uploader": author, "state": "uploaded", "download_count": 3 }),
        ),
    };
    Release {
        tag_name: format!("v1.0.{index}"),
        name: Some(format!("Release 1.0.{index}")),
        created_at: Timestamp::UNIX_EPOCH,
        published_at: Some(Timestamp::UNIX_EPOCH),
        prerelease: false,
        body: notes.to_owned(),
        assets: vec![asset],
        rest: map(json!({
            "url": format!("https://api.github.com/repos/devsapp/fc3/releases/{index}"),
            "html_url": format!("https://github.com/devsapp/fc3/releases/tag/v1.0.{index}"),
            "id": index, "author": author, "node_id": "RE_1", "target_commitish": "master", "immutable": false,
            "updated_at": "2024-05-01T10:00:01Z", "mentions_count": 2, "reactions": { "total_count": 0 },
        })),
    }
}

fn one_document(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, dialect: Dialect, releases: &[Release]) {
    let upstreams = ["github", "gitee"].map(NamedUpstream::forge).to_vec();
    let names = Names::new(&Config::default(), &[], upstreams, OfficialRoutes::Off).expect("a valid configuration");
    let package = PackageId { upstream: "github".into(), name: "devsapp/fc3".parse().expect("a package") };
    let renderer = Renderer {
        dialect,
        base: "http://mirror.example:8080",
        signature: "",
        names: &names,
        package: &package,
        folder: None,
    };
    let render = |releases: &[Release]| releases.iter().map(|release| renderer.release(release).len()).sum::<usize>();
    group.throughput(Throughput::Bytes(render(releases) as u64));
    group.bench_function(name, |bench| bench.iter(|| render(black_box(releases))));
}

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("render");
    group.sampling_mode(SamplingMode::Flat);
    let notes =
        "## What's changed\r\n* fix: retry on 502 by @octo in #12\r\n* \u{4fee}\u{590d} the \"deploy\" command\r\n"
            .repeat(8);
    for count in [1, 30, 500] {
        let releases: Vec<Release> = (0..count).map(|index| release(index, &notes)).collect();
        one_document(&mut group, &format!("srm, {count} releases"), Dialect::Srm, &releases);
        one_document(&mut group, &format!("github, {count} releases"), GITHUB, &releases);
    }
    for kib in [4, 64] {
        let many = |what: &str| what.repeat((kib << 10) / what.len());
        let adversarial =
            [("control characters", many("\u{1}")), ("quotes", many("\"\\")), ("Chinese", many("\u{6587}"))];
        for (name, notes) in adversarial {
            let releases: Vec<Release> = (0..30).map(|index| release(index, &notes)).collect();
            one_document(&mut group, &format!("srm, 30 releases, {kib} KiB of {name}"), Dialect::Srm, &releases);
        }
    }
    for fields in [100, 10_000] {
        let field = |index: usize| (format!("field_{index}"), Value::from(index));
        let unusual = Release { rest: (0..fields).map(field).collect(), ..release(1, &notes) };
        one_document(&mut group, &format!("github, 1 release with {fields} fields"), GITHUB, &[unusual]);
    }
    group.finish();
}
