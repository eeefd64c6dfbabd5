//! Packages of the registries, v3 and simple: documents and zips, absence and trouble, redirects, and what is sent upstream.

use std::time::Duration;

use srm_mirror::package::DialectName;

use crate::{
    forge::{BadSignature, Fault, Forge, Host, Links, Match, Missing, RegistryZips, Route},
    logs,
    mirror::{Mirror, TestResponse, setup},
};

fn text(got: &TestResponse) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

#[tokio::test]
async fn a_package_of_the_official_registry_is_served_by_its_plain_name() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("0.1.21").version("0.1.22");
    let mirror = Mirror::over(&forge).await;
    let latest = mirror.get("/official/fc3/releases/latest").await;
    assert_eq!((latest.status, latest.json()["tag_name"].as_str()), (200, Some("0.1.22")));
    assert_eq!(latest.json()["zipball_url"], mirror.url("/official/fc3/zipball/0.1.22"));
    let list = mirror.get("/official/fc3/releases").await.json();
    let tags: Vec<_> = list.as_array().expect("an array").iter().map(|release| release["tag_name"].as_str()).collect();
    assert_eq!(tags, [Some("0.1.22"), Some("0.1.21")]);
    forge.clear_log();
    let one = mirror.get("/official/fc3/releases/tags/0.1.21").await;
    assert_eq!((one.status, one.json()["tag_name"].as_str()), (200, Some("0.1.21")));
    let flat = mirror.get("/official/fc3/flat/0.1.22").await;
    assert_eq!((flat.status, flat.sha256()), (200, fc3.sha256("0.1.22")), "a v3 registry's zips come flat");
    let zip = mirror.get("/official/fc3/zipball/0.1.22").await;
    assert_eq!(zip.status, 200);
    let counts: Vec<_> = forge.counts().into_iter().collect();
    assert_eq!(counts, [(Route::V3Tag, 1), (Route::V3Zip, 1), (Route::Storage, 1)]);
}

#[tokio::test]
async fn a_package_of_the_simple_registry_is_one_package_with_and_without_its_provider() {
    let forge = Forge::start().await;
    let core = forge.simple_registry().component("core").version("0.1.66");
    let mirror = Mirror::over(&forge).await;
    let first = mirror.get("/official-2x/devsapp/core/zipball/0.1.66").await;
    assert_eq!((first.status, first.sha256()), (200, core.sha256("0.1.66")));
    let list = mirror.get("/official-2x/core/releases").await;
    assert_eq!(list.json()[0]["tag_name"], "0.1.66");
    forge.clear_log();
    let second = mirror.get("/official-2x/core/zipball/0.1.66").await;
    assert_eq!((second.status, second.sha256()), (200, core.sha256("0.1.66")));
    assert_eq!(mirror.get("/official-2x/devsapp/core/releases").await.status, 200);
    assert_eq!(forge.requests().len(), 0, "there is one key");
}

#[tokio::test]
async fn a_missing_package_and_a_missing_version_are_404_in_either_form_of_absence() {
    for missing in [Missing::NotFound, Missing::Ok] {
        let forge = Forge::start().await;
        for registry in [forge.registry(), forge.simple_registry()] {
            registry.options(|options| options.missing = missing);
            registry.component("fc3").version("0.1.22");
        }
        let mirror = Mirror::over(&forge).await;
        for upstream in ["official", "official-2x"] {
            for route in ["releases", "releases/latest", "releases/tags/9.9.9", "zipball/9.9.9", "flat/9.9.9"] {
                let got = mirror.get(&format!("/{upstream}/none/{route}")).await;
                assert_eq!(got.status, 404, "{missing:?} {upstream} {route}: {}", text(&got));
                assert!(text(&got).contains("no package none"), "{missing:?} {upstream} {route}: {}", text(&got));
            }
            for route in ["releases/tags/9.9.9", "zipball/9.9.9", "zipball/refs/heads/main", "zipball/refs/tags/9.9.9"]
            {
                let got = mirror.get(&format!("/{upstream}/fc3/{route}")).await;
                assert_eq!(got.status, 404, "{missing:?} {upstream} {route}: {}", text(&got));
                assert!(!text(&got).contains("no package"), "{missing:?} {upstream} {route}: {}", text(&got));
            }
        }
    }
}

#[tokio::test]
async fn after_a_missing_version_the_package_is_asked_for_once() {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.22");
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/official/fc3/zipball/9.9.9").await.status, 404);
    // Exactly as asked and with a `v`; the package in between.
    assert_eq!(forge.counts().into_iter().collect::<Vec<_>>(), [(Route::V3Latest, 1), (Route::V3Zip, 2)]);
    assert_eq!(mirror.get("/official/fc3/zipball/8.8.8").await.status, 404);
    assert_eq!(forge.count_of(Route::V3Latest), 1);
    forge.clear_log();
    for _ in 0..3 {
        assert_eq!(mirror.get("/official/fc3/zipball/9.9.9").await.status, 404);
    }
    assert_eq!(forge.requests().len(), 0);
    // A package that does not exist is told from one without the version, and remembered too.
    for _ in 0..3 {
        assert_eq!(mirror.get("/official/none/zipball/9.9.9").await.status, 404);
    }
    let counts: Vec<_> = forge.counts().into_iter().collect();
    assert_eq!(counts, [(Route::V3Latest, 1), (Route::V3List, 1), (Route::V3Zip, 1)]);
}

#[tokio::test]
async fn a_version_is_found_with_a_v_added_or_removed() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("0.1.22");
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/official/fc3/flat/v0.1.22").await.sha256(), fc3.sha256("0.1.22"));
    assert_eq!(mirror.get("/official/fc3/releases/tags/v0.1.22").await.json()["tag_name"], "0.1.22");
}

#[tokio::test]
async fn trouble_of_a_registry_is_never_a_404_and_its_text_reaches_no_client() {
    let json = [("content-type", "application/json")];
    for (what, fault, status) in [
        ("another text", Fault::v3_error(200, "系统繁忙 hush"), 502),
        ("another text with 500", Fault::v3_error(500, "未找到指定资源"), 502),
        ("another code", Fault::simple_error(200, "Busy", "hush"), 502),
        ("401", Fault::v3_error(401, "hush"), 502),
        ("403", Fault::v3_error(403, "未找到指定资源"), 502),
        ("429", Fault::v3_error(429, "hush"), 503),
        ("451", Fault::v3_error(451, "hush"), 451),
        ("a page", Fault::Html200, 502),
        ("no JSON", Fault::status(200, &json, "<<<"), 502),
        ("refused", Fault::Refuse, 502),
    ] {
        let forge = Forge::start().await;
        for registry in [forge.registry(), forge.simple_registry()] {
            registry.component("fc3").version("0.1.22");
        }
        forge.fault(Match::on(Host::V3), fault.clone()).always();
        forge.fault(Match::on(Host::Simple), fault).always();
        let mirror = Mirror::over(&forge).await;
        for upstream in ["official", "official-2x"] {
            for route in ["releases", "releases/latest", "releases/tags/0.1.22", "zipball/0.1.22", "flat/0.1.22"] {
                // The same failure of another route may be cooling down.
                let got = mirror.get(&format!("/{upstream}/fc3/{route}")).await;
                let expected = got.status == status || got.status == 503 || (status == 451 && got.status == 502);
                assert!(expected, "{what} {upstream} {route}: {} {}", got.status, text(&got));
                assert!(!text(&got).contains("hush") && !text(&got).contains("系统"), "{what}: {}", text(&got));
            }
        }
    }
}

#[tokio::test]
async fn json_in_place_of_a_zip_is_never_served_as_a_zip() {
    for (body, status) in [("未找到指定资源", 404), ("系统繁忙", 502)] {
        for media_type in ["application/json", "application/zip"] {
            let forge = Forge::start().await;
            forge.registry().component("fc3").version("0.1.22");
            let json = serde_json::json!({"request_id": "x", "body": body}).to_string();
            let fault = Fault::status(200, &[("content-type", media_type)], json);
            forge.fault(Match::route(Route::V3Zip), fault).always();
            let mirror = Mirror::over(&forge).await;
            let got = mirror.get("/official/fc3/zipball/0.1.22").await;
            assert_eq!(got.status, status, "{body} {media_type}: {}", text(&got));
        }
    }
}

#[tokio::test]
async fn a_zip_comes_directly_or_by_a_signed_address_that_is_never_written_down() {
    let _kept = logs::keep();
    for zips in [RegistryZips::Redirect, RegistryZips::Direct] {
        let forge = Forge::start().await;
        forge.registry().options(|options| options.zips = zips);
        let fc3 = forge.registry().component("signed-package").version("0.1.22");
        let mirror = Mirror::over(&forge).await;
        let got = mirror.get("/official/signed-package/flat/0.1.22").await;
        assert_eq!((got.status, got.sha256()), (200, fc3.sha256("0.1.22")), "{zips:?}");
        let redirected = usize::from(zips == RegistryZips::Redirect);
        assert_eq!((forge.count_of(Route::V3Zip), forge.count_of(Route::Storage)), (1, redirected));
        for line in logs::lines("srm_mirror::") {
            assert!(!line.contains("Signature=") && !line.contains("OSSAccessKeyId"), "{line}");
        }
        let dir = mirror.dir().to_owned();
        for file in walk(&dir) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            let found = bytes.windows(14).any(|window| window == b"OSSAccessKeyId");
            assert!(!found, "{}", file.display());
        }
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_download_that_breaks_is_resumed_by_a_new_signed_address() {
    let forge = Forge::start().await;
    // An address is good for one request: a second use of it is refused.
    forge.registry().options(|options| options.links = Links::Uses(1));
    let fc3 = forge.registry().component("fc3").version_with("0.1.22", |spec| spec.noise("dist/big.bin", 7, 3 << 20));
    forge.fault(Match::route(Route::Storage), Fault::CutAfter(1 << 20)).times(1);
    let mirror = Mirror::over(&forge).await;
    let got = mirror.get("/official/fc3/flat/0.1.22").await;
    assert_eq!((got.status, got.sha256()), (200, fc3.sha256("0.1.22")));
    assert_eq!((forge.registry().links_granted(), forge.count_of(Route::Storage)), (2, 2));
}

#[tokio::test]
async fn a_redirect_to_a_host_that_is_not_listed_is_refused() {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.22");
    let mirror = setup(&forge).with(|config| {
        let section = config.upstreams.get_mut("official").expect("a default");
        section.redirect_hosts = vec!["*.aliyuncs.com".into()];
    });
    let got = mirror.start().await.get("/official/fc3/zipball/0.1.22").await;
    assert_eq!(got.status, 502);
    assert_eq!(forge.count_of(Route::Storage), 0);
}

#[tokio::test]
async fn nothing_that_a_client_sends_reaches_a_registry_or_its_storage() {
    let forge = Forge::start().await;
    for registry in [forge.registry(), forge.simple_registry()] {
        registry.component("fc3").version("0.1.22").version("dev");
    }
    let mirror = Mirror::over(&forge).await;
    let sent = [
        ("authorization", "Bearer CLIENT"),
        ("token", "CLIENT"),
        ("sign_code", "CLIENT"),
        ("nonce", "CLIENT"),
        ("timestamp", "CLIENT"),
        ("cookie", "a=CLIENT"),
        ("user-agent", "CLIENT/1.0"),
        ("range", "bytes=5-9"),
        ("if-none-match", "\"CLIENT\""),
        ("x-forwarded-for", "192.0.2.77"),
    ];
    for upstream in ["official", "official-2x"] {
        for route in ["releases", "releases/latest", "releases/tags/0.1.22", "zipball/0.1.22", "zipball/dev"] {
            let got = mirror.get_with(&format!("/{upstream}/fc3/{route}?search=CLIENT&lang=CLIENT"), &sent).await;
            assert!(matches!(got.status, 200 | 206), "{upstream} {route}: {} {}", got.status, text(&got));
        }
    }
    let seen = forge.requests();
    assert!(seen.len() > 10);
    for seen in seen {
        let all = format!("{} {:?}", seen.path_and_query, seen.headers).to_lowercase();
        assert!(!all.contains("client") && !all.contains("192.0.2.77") && !all.contains("bytes=5-9"), "{all}");
    }
    assert_eq!(forge.leaks().len(), 0);
}

#[tokio::test]
async fn what_is_stored_is_served_while_the_registry_is_down() {
    let forge = Forge::start().await;
    let fc3 = forge.registry().component("fc3").version("0.1.21").version("0.1.22");
    let mirror = Mirror::over(&forge).await;
    for path in ["releases/latest", "releases", "releases/tags/0.1.22", "flat/0.1.22"] {
        assert_eq!(mirror.get(&format!("/official/fc3/{path}")).await.status, 200, "{path}");
    }
    forge.fault(Match::any(), Fault::Refuse).always();
    mirror.clock.advance(Duration::from_secs(7 * 86_400));
    assert_eq!(mirror.get("/official/fc3/releases/latest").await.json()["tag_name"], "0.1.22");
    assert_eq!(mirror.get("/official/fc3/releases/tags/0.1.22").await.status, 200);
    // Never asked for by itself, but the list has it.
    assert_eq!(mirror.get("/official/fc3/releases/tags/0.1.21").await.json()["tag_name"], "0.1.21");
    assert_eq!(mirror.get("/official/fc3/flat/0.1.22").await.sha256(), fc3.sha256("0.1.22"));
    assert_eq!(mirror.get("/official/fc3/flat/v0.1.22").await.sha256(), fc3.sha256("0.1.22"));
    assert_eq!(mirror.get("/official/fc3/flat/0.1.21").await.status, 502);
}

#[tokio::test]
async fn a_package_that_the_registry_has_removed_is_kept_and_a_blocked_one_is_not() {
    let forge = Forge::start().await;
    let package = forge.registry().component("fc3").version("0.1.22");
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/official/fc3/releases/latest").await.status, 200);
    assert_eq!(mirror.get("/official/fc3/zipball/0.1.22").await.status, 200);
    package.remove();
    mirror.clock.advance(Duration::from_secs(3600));
    let gone = mirror.get("/official/fc3/releases/latest").await;
    assert_eq!(gone.status, 200);
    assert!(gone.cache_status().contains("upstream-gone"), "{}", gone.cache_status());
    assert_eq!(mirror.get("/official/fc3/zipball/0.1.22").await.status, 200);
    forge.fault(Match::on(Host::V3), Fault::v3_error(451, "hush")).always();
    mirror.clock.advance(Duration::from_secs(3600));
    assert_eq!(mirror.get("/official/fc3/releases/latest").await.status, 451);
    assert_eq!(mirror.get("/official/fc3/zipball/0.1.22").await.status, 451);
}

#[tokio::test]
async fn the_recorded_source_of_a_plain_name_survives_trouble() {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.22");
    forge.simple_registry().component("fc3").version("9.9.9");
    let mirror = Mirror::over(&forge).await;
    assert_eq!(mirror.get("/v3/packages/fc3/release/latest").await.json()["body"]["tag_name"], "0.1.22");
    assert_eq!(mirror.get("/simple/fc3/releases/latest").await.json()["Response"]["tag_name"], "9.9.9");
    forge.fault(Match::on(Host::Simple), Fault::simple_error(200, "Busy", "hush")).always();
    mirror.clock.advance(Duration::from_secs(7200));
    // Stale from its own source, not fresh from the next one.
    assert_eq!(mirror.get("/simple/fc3/releases/latest").await.json()["Response"]["tag_name"], "9.9.9");
    let recorded = srm_mirror::cache::Cache::disk(&mirror.cache)
        .sources()
        .get(&"fc3".parse().expect("a name"), DialectName::Simple);
    assert_eq!(recorded.as_deref(), Some("official-2x"));
}

const CODE: &str = "abcdefSAFETY";

/// A registry with a public package and a private one that only the code can see.
async fn with_private_package() -> (Forge, crate::forge::PackageHandle) {
    let forge = Forge::start().await;
    forge.registry().accept_code(CODE);
    forge.registry().component("open").version("1.0.0");
    let secret = forge.registry().component("secret").version("1.0.0").version("dev").make_private();
    (forge, secret)
}

const PRIVATE_ROUTES: [&str; 8] = [
    "/official/secret/releases",
    "/official/secret/releases/latest",
    "/official/secret/releases/tags/1.0.0",
    "/official/secret/zipball/1.0.0",
    "/official/secret/zipball/dev",
    "/official/secret/metadata/1.0.0",
    "/v3/packages/secret/release/latest",
    "/v3/packages/secret/release/tags/1.0.0",
];

#[tokio::test]
async fn a_private_package_is_refused_by_default_and_served_where_the_operator_says_so() {
    let (forge, secret) = with_private_package().await;
    let dir = tempfile::tempdir().expect("a directory");
    let refusing = || setup(&forge).token("official", CODE);
    let mirror = refusing().start_in(dir.path()).await;
    for route in PRIVATE_ROUTES {
        assert_eq!(mirror.get(route).await.status, 404, "{route}");
    }
    assert_eq!(mirror.get("/official/open/zipball/1.0.0").await.status, 200, "a public one is served with a code too");
    mirror.stop().await;

    let serving = refusing().with(|config| config.packages.private = srm_mirror::registry::Private::Serve);
    let mirror = serving.start_in(dir.path()).await;
    for route in PRIVATE_ROUTES {
        assert_eq!(mirror.get(route).await.status, 200, "{route}");
    }
    assert_eq!(mirror.get("/official/secret/flat/1.0.0").await.sha256(), secret.sha256("1.0.0"));
    mirror.stop().await;

    // What is stored is not served by a mirror that refuses private packages, with the code or without it.
    for setup in [refusing(), setup(&forge)] {
        let mirror = setup.start_in(dir.path()).await;
        mirror.clock.advance(Duration::from_secs(2 * 86_400));
        for route in PRIVATE_ROUTES {
            assert_eq!(mirror.get(route).await.status, 404, "{route}");
        }
        mirror.stop().await;
    }
    assert_eq!(forge.leaks().len(), 0, "no signature reaches the storage");
}

#[tokio::test]
async fn the_code_is_in_no_log_and_no_file() {
    let _kept = logs::keep();
    let (forge, _) = with_private_package().await;
    let mirror = setup(&forge).token("official", CODE);
    let mirror = mirror.with(|config| config.packages.private = srm_mirror::registry::Private::Serve).start().await;
    for route in PRIVATE_ROUTES {
        assert_eq!(mirror.get(route).await.status, 200, "{route}");
    }
    assert_eq!(logs::lines(CODE), [""; 0]);
    for file in walk(mirror.dir()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(CODE.len()).any(|window| window == CODE.as_bytes()), "{}", file.display());
    }
}

#[tokio::test]
async fn while_the_code_is_refused_nothing_is_absent() {
    let (forge, _) = with_private_package().await;
    forge.registry().revoke_code(CODE);
    forge.registry().options(|options| options.bad_signature = BadSignature::Refused(401));
    forge.simple_registry().component("secret").version("6.6.6");
    let mirror = setup(&forge).token("official", CODE);
    let mirror = mirror.with(|config| config.packages.private = srm_mirror::registry::Private::Serve).start().await;
    // The srm route asks `official`, then `official-2x`.
    let got = mirror.get("/secret/releases/latest").await;
    assert_eq!(got.status, 502, "{}", text(&got));
    assert_eq!(forge.requests().iter().filter(|seen| seen.host == Host::Simple).count(), 0);
}
