//! `/metrics`: figures of what happened, in the text format of Prometheus, for those who may read them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use srm_mirror::{access::RuleConfig, config::Config, value::ByteSize};

use crate::{
    eventually::eventually,
    forge::{Fault, Forge, Match},
    mirror::{Mirror, setup},
    tls,
};

const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge
}

/// The samples by name and labels.
async fn samples(mirror: &Mirror) -> BTreeMap<String, f64> {
    let got = mirror.get("/metrics").await;
    assert_eq!(got.status, 200, "{:?}", got.body);
    assert!(got.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = String::from_utf8(got.body.to_vec()).expect("text");
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect()
}

#[tokio::test]
async fn no_series_appears_twice_and_certificates_of_one_subject_are_series_of_their_own() {
    let forge = forge().await;
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let mut certificates = Vec::new();
    for dir in &dirs {
        let done = tls::init(dir.path(), &["mirror.example"], &[]).await;
        assert!(done.status.success(), "{done:?}");
        certificates.push(tls::files(dir.path(), "mirror.example"));
    }
    let mirror = tls::with_tls(setup(&forge), certificates).start().await;
    let text = String::from_utf8(mirror.get("/metrics").await.body.to_vec()).expect("text");
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let mut seen = BTreeSet::new();
    for (name, _) in series {
        assert!(seen.insert(name), "{name} appears twice in\n{text}");
    }
    let ends = seen.iter().filter(|name| name.starts_with("srm_mirror_certificate_expiry_timestamp_seconds{"));
    assert_eq!(ends.count(), 2, "{text}");
}

fn value(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    *samples.get(name).unwrap_or_else(|| panic!("no {name} among {:#?}", samples.keys()))
}

#[tokio::test]
async fn every_counter_exists_from_the_start_and_counts_what_happens() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let before = samples(&mirror).await;
    for name in [
        "srm_mirror_requests_total{route=\"zip\",code=\"200\"}",
        "srm_mirror_cache_answers_total{route=\"zip\",outcome=\"hit\"}",
        "srm_mirror_response_bytes_total{route=\"zip\"}",
        "srm_mirror_response_head_seconds_count{route=\"zip\"}",
        "srm_mirror_upstream_requests_total{upstream=\"github\",outcome=\"answered\"}",
        "srm_mirror_upstream_requests_total{upstream=\"official\",outcome=\"failed\"}",
        "srm_mirror_upstream_breaker_open{upstream=\"gitee\"}",
        "srm_mirror_client_refusals_total{limit=\"requests\"}",
        "srm_mirror_audit_lost_lines_total",
        "srm_mirror_log_lost_events_total",
        "srm_mirror_package_errors_total{cause=\"forbidden\"}",
        "srm_mirror_downloads_ended_total{outcome=\"stored\"}",
        "srm_mirror_downloads_ended_total{outcome=\"failed\"}",
        "srm_mirror_pins_settled_total",
        "srm_mirror_pin_mismatches_total",
        "srm_mirror_evicted_bytes_total",
    ] {
        assert!(value(&before, name).abs() < f64::EPSILON, "{name}");
    }
    let first = mirror.get(ZIP).await;
    eventually("the zip is stored", async || mirror.get(ZIP).await.cache_status().contains("hit")).await;
    assert_eq!(mirror.get("/devsapp/none/releases").await.status, 404);
    eventually("the disk has it", async || value(&samples(&mirror).await, "srm_mirror_disk_objects") >= 1.0).await;
    let after = samples(&mirror).await;
    let zips = value(&after, "srm_mirror_requests_total{route=\"zip\",code=\"200\"}");
    assert!(zips >= 2.0);
    assert!((value(&after, "srm_mirror_cache_answers_total{route=\"zip\",outcome=\"miss\"}") - 1.0).abs() < 1e-9);
    #[expect(clippy::cast_precision_loss, reason = "a small zip")]
    let bytes = zips * first.body.len() as f64;
    assert!((value(&after, "srm_mirror_response_bytes_total{route=\"zip\"}") - bytes).abs() < 1e-9);
    assert!((value(&after, "srm_mirror_response_seconds_count{route=\"zip\"}") - zips).abs() < 1e-9);
    assert!((value(&after, "srm_mirror_requests_total{route=\"releases\",code=\"404\"}") - 1.0).abs() < 1e-9);
    assert!((value(&after, "srm_mirror_package_errors_total{cause=\"no-package\"}") - 1.0).abs() < 1e-9);
    assert!(value(&after, "srm_mirror_upstream_requests_total{upstream=\"github\",outcome=\"answered\"}") >= 2.0);
    assert!(value(&after, "srm_mirror_disk_bytes{area=\"zips\"}") > 0.0);
    assert!((value(&after, "srm_mirror_downloads_ended_total{outcome=\"stored\"}") - 1.0).abs() < 1e-9);
    assert!((value(&after, "srm_mirror_pins_settled_total") - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn evictions_mismatches_and_failed_downloads_are_counted() {
    let forge = Forge::with_numbered_packages(20, 900_000).await;
    let small = |config: &mut Config| {
        config.disk.limit = ByteSize::mib(12);
        config.disk.documents = ByteSize::mib(1);
        config.memory.archives = ByteSize(0);
        config.memory.archive_max = ByteSize(0);
    };
    let mirror = setup(&forge).with(small).start().await;
    for number in 0..20 {
        assert_eq!(mirror.get(&format!("/load/p{number}/zipball/v1.0.0")).await.status, 200);
    }
    forge.repo("load/p1").tag("v1.0.0", |t| t.noise("data.bin", 99, 900_000));
    assert_eq!(mirror.get("/load/p1/zipball/v1.0.0").await.status, 502);
    let figures = samples(&mirror).await;
    assert!(value(&figures, "srm_mirror_evicted_bytes_total") >= 900_000.0, "{figures:?}");
    assert!((value(&figures, "srm_mirror_pin_mismatches_total") - 1.0).abs() < 1e-9);
    assert!((value(&figures, "srm_mirror_downloads_ended_total{outcome=\"failed\"}") - 1.0).abs() < 1e-9);
    assert!((value(&figures, "srm_mirror_downloads_ended_total{outcome=\"stored\"}") - 20.0).abs() < 1e-9);
}

#[tokio::test]
async fn no_label_comes_from_a_client_or_an_upstream() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let before: Vec<String> = samples(&mirror).await.into_keys().collect();
    for path in
        ["/evil\"label/x/releases", "/devsapp/fc3/zipball/v1.0.0", "/nothing", "/-/admin", "/devsapp/x/zipball/1"]
    {
        mirror.get(path).await;
    }
    let after: Vec<String> = samples(&mirror).await.into_keys().collect();
    assert_eq!(before, after, "a series has appeared");
}

#[tokio::test]
async fn the_figures_tell_whose_fault_it_is() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    forge.fault(Match::any(), Fault::status(503, &[], "")).always();
    for number in 0..8 {
        mirror.get(&format!("/devsapp/p{number}/releases")).await;
    }
    let figures = samples(&mirror).await;
    assert!((value(&figures, "srm_mirror_upstream_breaker_open{upstream=\"github\"}") - 1.0).abs() < 1e-9);
    assert!(value(&figures, "srm_mirror_upstream_requests_total{upstream=\"github\",outcome=\"failed\"}") >= 5.0);
    assert!(value(&figures, "srm_mirror_degraded_reasons") >= 1.0);
    assert!(value(&figures, "srm_mirror_upstream_breaker_open{upstream=\"gitee\"}").abs() < 1e-9);
}

#[tokio::test]
async fn with_access_the_figures_have_a_rule_of_their_own() {
    let forge = forge().await;
    for (readers, anonymous, by_token) in
        [(&["*"][..], 401, 200), (&["anonymous"], 200, 200), (&["token:other"], 401, 404)]
    {
        let setup = setup(&forge).with(|config: &mut Config| {
            config.access.enabled = true;
            config.access.rules =
                vec![RuleConfig { packages: vec!["*".into()], read: vec!["*".into()], ..RuleConfig::default() }];
            config.access.metrics = readers.iter().map(|&reader| reader.to_owned()).collect();
        });
        let mirror = setup.start().await;
        let ask = json!({"name": "scraper", "scopes": ["read"], "packages": [], "expires_at": null, "signs": false});
        let created = mirror.admin(mirror.dir(), "token/create", ask).await;
        let bearer = format!("Bearer {}", created[0]["secret"].as_str().expect("a secret"));
        assert_eq!(mirror.get("/metrics").await.status, anonymous, "{readers:?}");
        assert_eq!(mirror.get_with("/metrics", &[("authorization", &bearer)]).await.status, by_token, "{readers:?}");
        assert_eq!(mirror.get("/healthz").await.status, 200);
    }
}
