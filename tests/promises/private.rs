//! A repository that only the mirror's token can see is 404 on every route, unless the configuration says otherwise.

use std::{path::Path, time::Duration};

use srm_mirror::registry::Private;

use crate::{
    forge::{Forge, Match},
    mirror::{Mirror, Setup, setup},
};

const SECRET: &str = "acme/secret";

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.repo(SECRET).release("v1.0.0", |r| r.publish_yaml("Type: Component\nName: hush\n")).private();
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
    forge.accept_token("T0KEN");
    forge
}

fn refusing(forge: &Forge) -> Setup {
    setup(forge).token("github", "T0KEN")
}

fn serving(forge: &Forge) -> Setup {
    refusing(forge).with(|config| config.packages.private = Private::Serve)
}

/// Every route of the private repository.
fn routes(forge: &Forge) -> Vec<String> {
    let commit = forge.repo(SECRET).commit("v1.0.0");
    let below = [
        "releases",
        "releases/latest",
        "releases/tags/v1.0.0",
        "zipball/v1.0.0",
        "zipball/refs/tags/v1.0.0",
        "zipball/main",
        "zipball/refs/heads/main",
        "metadata",
        "metadata/v1.0.0",
        "flat/v1.0.0",
    ];
    let mut routes: Vec<String> = below.iter().map(|rest| format!("/acme/secret/{rest}")).collect();
    routes.push(format!("/acme/secret/zipball/{commit}"));
    routes.extend(below.iter().map(|rest| format!("/github/ACME/Secret/{rest}")));
    for root in ["/repos", "/api/v3/repos"] {
        routes.extend(
            ["", "/releases", "/releases/latest", "/releases/tags/v1.0.0", "/zipball/v1.0.0", "/releases/1"]
                .map(|rest| format!("{root}/acme/secret{rest}")),
        );
    }
    routes.extend(["/simple/acme/secret/releases", "/simple/acme/secret/zipball/v1.0.0"].map(str::to_owned));
    routes.extend(
        [
            "/v3/packages/acme__secret/release/latest",
            "/v3/packages/acme__secret/release",
            "/v3/packages/acme__secret/release/tags/v1.0.0",
        ]
        .map(str::to_owned),
    );
    routes
}

async fn all_are_hidden(mirror: &Mirror, forge: &Forge) {
    for route in routes(forge) {
        let got = mirror.get(&route).await;
        assert_eq!(got.status, 404, "{route}: {}", got.cache_status());
        let body = String::from_utf8_lossy(&got.body);
        assert!(!body.contains("Notes of") && !body.contains("hush") && !body.contains("private"), "{route}: {body}");
    }
}

/// Requests every route while the repository is public.
async fn fill(forge: &Forge, dir: &Path) {
    let mirror = serving(forge).start_in(dir).await;
    let commit = forge.repo(SECRET).commit("v1.0.0");
    let zips = ["zipball/v1.0.0".to_owned(), format!("zipball/{commit}"), "zipball/main".to_owned()];
    let documents = ["releases", "releases/latest", "metadata", "metadata/v1.0.0"].map(str::to_owned);
    for rest in zips.iter().chain(&documents) {
        assert_eq!(mirror.get(&format!("/acme/secret/{rest}")).await.status, 200, "{rest}");
    }
    mirror.stop().await;
}

#[tokio::test]
async fn a_private_repository_is_404_on_every_route_and_checked_once_a_day() {
    let forge = forge().await;
    let mirror = refusing(&forge).start().await;
    for day in 1..=2 {
        all_are_hidden(&mirror, &forge).await;
        mirror.clock.advance(Duration::from_secs(86_000));
        all_are_hidden(&mirror, &forge).await;
        let checks = forge.count(|seen| seen.path().eq_ignore_ascii_case("/repos/acme/secret"));
        assert_eq!(checks, day, "one check a day");
        assert_eq!(forge.requests().len(), day, "no other request");
        // Later than the freshness period plus the stale period.
        mirror.clock.advance(Duration::from_secs(2000));
    }
}

#[tokio::test]
async fn a_public_repository_is_served_after_one_check_a_day() {
    let forge = forge().await;
    let mirror = refusing(&forge).start().await;
    for path in
        ["/devsapp/fc3/releases", "/devsapp/fc3/releases/latest", "/devsapp/fc3/zipball/v1.0.0", "/repos/devsapp/fc3"]
    {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    assert_eq!(forge.count(|seen| seen.path() == "/repos/devsapp/fc3"), 1);
}

/// A mirror that refuses private packages over a cache that was filled while they were served, with and without a token,
/// with the forge up and down.
async fn each_refusing_mirror(expect: impl AsyncFn(&Mirror, &Forge, bool, &str)) {
    for with_token in [true, false] {
        for up in [true, false] {
            let forge = forge().await;
            let dir = tempfile::tempdir().expect("a directory");
            fill(&forge, dir.path()).await;
            if !up {
                forge.down().await;
            }
            // Without a token the upstream answers 404.
            let setup = if with_token { refusing(&forge) } else { setup(&forge) };
            let mirror = setup.start_in(dir.path()).await;
            expect(&mirror, &forge, up, &format!("token {with_token}, up {up}")).await;
        }
    }
}

#[tokio::test]
async fn a_cached_package_is_hidden_once_it_is_private() {
    each_refusing_mirror(async |mirror, forge, up, case| {
        for route in routes(forge) {
            let got = mirror.get(&route).await;
            let fits = if up { got.status == 404 } else { got.status == 404 || got.status >= 500 };
            assert!(fits, "{case}, {route}: {} {}", got.status, got.cache_status());
        }
    })
    .await;
}

#[tokio::test]
async fn a_private_package_is_absent_from_the_catalog_with_and_without_the_token() {
    each_refusing_mirror(async |mirror, _, _, case| {
        let got = mirror.get("/v3/packages/releases").await;
        let body = String::from_utf8_lossy(&got.body);
        assert_eq!(got.status, 200, "{case}: {body}");
        assert!(!body.contains("secret") && !body.contains("hush"), "{case}: {body}");
    })
    .await;
}

#[tokio::test]
async fn a_private_package_of_which_only_a_zip_is_cached_stays_hidden_without_a_token() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = serving(&forge).start_in(dir.path()).await;
    let zip = format!("/acme/secret/zipball/{}", forge.repo(SECRET).commit("v1.0.0"));
    assert_eq!(mirror.get(&zip).await.status, 200);
    mirror.stop().await;
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get(&zip).await.status, 404);
    assert_eq!(mirror.head(&zip).await.status, 404);
}

#[tokio::test]
async fn private_allow_serves_the_named_packages() {
    let forge = forge().await;
    forge.repo("acme/other").release("v1.0.0", |r| r).private();
    let mirror = refusing(&forge).with(|config| config.packages.private_allow = vec!["Acme/sec*".into()]).start().await;
    for rest in ["releases", "releases/latest", "zipball/v1.0.0", "metadata/v1.0.0"] {
        assert_eq!(mirror.get(&format!("/acme/secret/{rest}")).await.status, 200, "{rest}");
        assert_eq!(mirror.get(&format!("/acme/other/{rest}")).await.status, 404, "{rest}");
    }
    assert_eq!(forge.leaks().len(), 0);
}

#[tokio::test]
async fn when_the_visibility_check_fails_only_documents_fetched_without_a_token_are_served() {
    let forge = forge().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = setup(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
    mirror.stop().await;
    forge.down().await;
    let mirror = refusing(&forge).start_in(dir.path()).await;
    assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200, "public when it was fetched");
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    assert_eq!(mirror.get("/acme/secret/releases").await.status, 502, "visibility unknown");
}

#[tokio::test]
async fn concurrent_requests_share_one_visibility_check() {
    let forge = forge().await;
    let mirror = std::sync::Arc::new(refusing(&forge).start().await);
    let gate = forge.gate_head(Match::path("/repos/acme/secret"));
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let mirror = mirror.clone();
            tokio::spawn(async move { mirror.get("/acme/secret/releases").await.status })
        })
        .collect();
    gate.reached().await;
    gate.open();
    for one in asking {
        assert_eq!(one.await.expect("no panic"), 404);
    }
    assert_eq!(forge.requests().len(), 1);
}
