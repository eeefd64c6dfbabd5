//! The web pages: what is here and whether it works, for people; with nothing that a page could be attacked by, and nothing
//! that the access rules do not give.

use reqwest::Method;
use serde_json::json;
use srm_mirror::{access::RuleConfig, config::Config};

use crate::{
    access::{self, OPEN, PUBLIC, SECRET, create, rule, with_rules},
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, Setup, TestResponse, setup},
    tls::program,
};

pub const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";
const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
const PAGES: [&str; 5] =
    ["/-/", "/-/health", "/-/setup", "/-/packages/github:devsapp/fc3", "/-/packages/github:devsapp/fc3@v1.0.0"];

async fn forge() -> Forge {
    let forge = Forge::start().await;
    let publish = format!("Type: Component\nName: fc3\nDescription: '{}'\n", HOSTILE.replace('\'', "''"));
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.publish_yaml(&publish).file("index.js", "1").body(HOSTILE));
    forge.repo("devsapp/fc3").release("v1.2.0", |r| r).release("v1.10.0-rc.1", |r| r.prerelease());
    forge
}

fn text(got: &TestResponse) -> String {
    String::from_utf8(got.body.to_vec()).expect("text")
}

/// A page, as a browser asks for it.
async fn page_with(mirror: &Mirror, path: &str, fields: &[(&str, &str)]) -> TestResponse {
    mirror.get_with(path, &[&[HTML], fields].concat()).await
}

pub async fn page(mirror: &Mirror, path: &str) -> String {
    let got = page_with(mirror, path, &[]).await;
    assert_eq!(got.status, 200, "{path}: {got:?}");
    text(&got)
}

async fn filled(setup: Setup) -> Mirror {
    let mirror = setup.start().await;
    assert_eq!(mirror.get("/devsapp/fc3/releases").await.status, 200);
    assert_eq!(mirror.get(ZIP).await.status, 200);
    // A client may have the whole zip before it is stored.
    let version = "/-/packages/github:devsapp/fc3@v1.0.0";
    eventually("the zip is stored", async || page(&mirror, version).await.contains("<dt>SHA-256</dt>")).await;
    assert_eq!(mirror.get(ZIP).await.status, 200);
    mirror
}

fn assert_in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let (_, after) =
            rest.split_once(part).unwrap_or_else(|| panic!("{part:?} is missing, or in another place:\n{text}"));
        rest = after;
    }
}

#[tokio::test]
async fn the_pages_say_what_is_here_and_ask_no_upstream() {
    let forge = forge().await;
    let mirror = filled(setup(&forge)).await;
    let ask = json!({"pattern": "devsapp/fc3@v1.2.0", "reason": "withdrawn by its author"});
    mirror.admin(mirror.dir(), "block", ask).await;
    mirror.admin(mirror.dir(), "keep", json!({"pattern": "devsapp/fc3@v1.0.0"})).await;
    let asked = forge.requests().len();

    let list = page(&mirror, "/-/").await;
    assert_in_order(
        &list,
        &["Everything works.", "<h1>Packages</h1>", ">devsapp/fc3</a>", "v1.0.0", "Component", "github"],
    );
    assert!(!page(&mirror, "/-/?q=nothing").await.contains("devsapp/fc3</a>"));
    for found in ["FC3", "sapp/f", "ALERT(1)", "github:devsapp"] {
        let found = page(&mirror, &format!("/-/?q={found}")).await;
        assert!(found.contains(">devsapp/fc3</a>"), "{found}");
    }

    let package = page(&mirror, "/-/packages/github:devsapp/fc3").await;
    let sha256 = forge.sha256("devsapp/fc3", "v1.0.0");
    let newest_first = [
        "github",
        "3 versions",
        "v1.10.0-rc.1",
        "prerelease",
        "v1.2.0",
        "blocked",
        "not stored",
        "v1.0.0",
        "kept",
        " B<",
    ];
    assert_in_order(&package, &newest_first);
    assert!(package.contains(&sha256[..12]) && package.contains("finding"), "{package}");

    let version = page(&mirror, "/-/packages/github:devsapp/fc3@v1.0.0").await;
    let base = mirror.url("");
    for part in [
        "component: devsapp__fc3@v1.0.0",
        &format!("{base}/devsapp/fc3/zipball/v1.0.0"),
        &sha256,
        "yes, it is never evicted",
        "other content under this version is refused",
        "does not conform to the Serverless Registry Model",
        "&#60;script&#62;alert(1)&#60;/script&#62;",
    ] {
        assert!(version.contains(part), "{part} is missing:\n{version}");
    }
    let blocked = page(&mirror, "/-/packages/github:devsapp/fc3@v1.2.0").await;
    assert!(blocked.contains("withdrawn by its author"), "{blocked}");
    let health = page(&mirror, "/-/health").await;
    assert_in_order(
        &health,
        &["Everything works.", "<h3>github</h3>", "answers", "<h3>official</h3>", "not asked yet", "Disk"],
    );
    assert_eq!(forge.requests().len(), asked, "{:?}", forge.requests());
}

#[tokio::test]
async fn no_page_has_a_script_or_takes_text_for_markup() {
    let forge = forge().await;
    let mirror = filled(setup(&forge)).await;
    let hostile = "%22%3E%3Cscript%3Ealert(3)%3C/script%3E";
    let answers = [
        format!("/-/?q={hostile}"),
        format!("/-/setup?package=fc3@{hostile}"),
        format!("/-/packages/github:devsapp/fc3@{hostile}"),
        format!("/-/packages/{hostile}"),
        format!("/-/{hostile}"),
        format!("/{hostile}"),
    ];
    for path in PAGES.iter().map(|path| (*path).to_owned()).chain(answers) {
        let got = page_with(&mirror, &path, &[]).await;
        let policy = got.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self'"), "{path}: {policy:?}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy:?}");
        assert_eq!(got.header("content-type"), "text/html; charset=utf-8", "{path}");
        assert_eq!(got.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(got.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(got.header("cache-control"), "no-store", "{path}");
        let lower = text(&got).to_lowercase();
        for forbidden in ["<script", "<img src=x", " style=", "<style", "javascript:"] {
            assert!(!lower.contains(forbidden), "{path}: {forbidden} is in\n{lower}");
        }
        let tags = lower.split('<').skip(1).map(|part| part.split('>').next().unwrap_or_default());
        // The names of attributes are outside quotes.
        let names = tags.flat_map(|tag| tag.split('"').step_by(2));
        assert!(names.into_iter().all(|name| !name.contains(" on")), "{path}: a handler is in\n{lower}");
    }
}

#[tokio::test]
async fn nothing_that_pages_show_to_be_copied_runs_what_an_address_or_a_tag_says() {
    let forge = forge().await;
    forge.repo("devsapp/fc3").release("v3;touch$IFS'x'", |r| r);
    let mirror = filled(setup(&forge)).await;
    for (version, status) in [("1.0;id", 200), ("$(id)", 200), ("1%0Aid", 400), ("a'b;id", 400), ("a%20b", 400)] {
        let got = page_with(&mirror, &format!("/-/setup?package=fc3@{version}"), &[]).await;
        assert_eq!(got.status, status, "{version}");
        if status == 200 {
            let shown = text(&got).replace("&#39;", "'");
            let lines = shown.split("<code>").skip(1).filter_map(|part| part.split("</code>").next());
            for line in lines.flat_map(str::lines).filter(|line| line.contains(version)) {
                assert!(line.split('\'').step_by(2).all(|bare| !bare.contains([';', '$'])), "{line}");
            }
        }
    }
    let version = page(&mirror, "/-/packages/github:devsapp/fc3@v3;touch$IFS'x'").await;
    assert!(version.contains("component: &#39;devsapp__fc3@v3;touch$IFS%27x%27&#39;"), "{version}");
    assert!(version.contains("/-/setup?package=github%3Adevsapp/fc3\""), "{version}");
}

#[tokio::test]
async fn stylesheet_and_icon_are_kept_for_ever_under_the_name_of_their_content() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let list = page(&mirror, "/-/").await;
    for (end, media_type) in [(".css", "text/css; charset=utf-8"), (".svg", "image/svg+xml")] {
        let links = list.split('"').filter(|part| part.starts_with("/-/assets/") && part.ends_with(end));
        let link = links.into_iter().next().expect("a link");
        let got = mirror.get(link).await;
        assert_eq!((got.status, got.header("content-type")), (200, media_type));
        assert_eq!(got.header("cache-control"), "public, max-age=31536000, immutable");
    }
    assert_eq!(mirror.get("/-/assets/other.css").await.status, 404);
}

#[tokio::test]
async fn a_browser_is_led_from_the_root_to_the_page_and_gets_errors_as_pages_and_other_clients_do_not() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let root = page_with(&mirror, "/", &[]).await;
    assert_eq!((root.status, root.header("location")), (302, "/-/"));
    assert_eq!(mirror.get("/").await.status, 404);
    for path in ["/nothing", "/-/nothing", "/-/assets/nothing", "/-/packages/github:nobody/nothing"] {
        let got = page_with(&mirror, path, &[]).await;
        assert_eq!((got.status, got.header("content-type")), (404, "text/html; charset=utf-8"), "{path}");
        assert!(text(&got).contains("<h1>Nothing here</h1>"), "{path}: {got:?}");
    }
    for path in ["/nothing", "/-/nothing"] {
        let got = mirror.get(path).await;
        assert_eq!((got.status, &got.json()["status"]), (404, &json!("404")), "{path}");
    }
    // What clients fetch is answered in its own form, to a browser, too.
    let list = page_with(&mirror, "/nobody/nothing/releases", &[]).await;
    assert_eq!((list.status, list.header("content-type")), (404, "application/json; charset=utf-8"));
}

#[tokio::test]
async fn head_has_the_fields_of_get_and_gzip_its_text() {
    let forge = forge().await;
    let mirror = filled(setup(&forge)).await;
    for path in PAGES {
        let got = page_with(&mirror, path, &[]).await;
        let head = mirror.request(Method::HEAD, path, &[HTML]).await.expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), got.header("content-type"), "{path}");
        assert!(head.headers.contains_key("content-length"), "{path}");
        let packed = page_with(&mirror, path, &[("accept-encoding", "gzip")]).await;
        assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "accept-encoding"), "{path}");
        assert!(packed.body.len() < got.body.len(), "{path}: {} of {}", packed.body.len(), got.body.len());
    }
}

#[tokio::test]
async fn the_set_up_page_has_every_line_that_connect_prints_for_its_address() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let plain =
        |page: &str| page.replace("&#34;", "\"").replace("&#39;", "'").replace("&#60;", "<").replace("&#38;", "&");
    for package in ["fc3", "devsapp/fc3@v1.0.0"] {
        let printed = program(&["connect", &mirror.url(""), "--package", package]).await;
        let printed = String::from_utf8(printed.stdout).expect("text");
        let shown = plain(&page(&mirror, &format!("/-/setup?package={package}")).await);
        for line in printed.lines().filter(|line| !line.is_empty()) {
            let line = line.trim_start_matches("#   ");
            let line = line.strip_prefix("# ").map_or(line, |title| title.split(": ").next().unwrap_or(title));
            assert!(shown.contains(line), "{line:?} is missing:\n{shown}");
        }
    }
}

#[tokio::test]
async fn links_begin_with_the_path_of_the_public_address() {
    let forge = forge().await;
    let public = |config: &mut Config| {
        config.server.public_url = Some("https://mirror.example/srm".parse().expect("an address"))
    };
    let mirror = filled(setup(&forge).with(public)).await;
    for path in PAGES {
        let page = page(&mirror, path).await;
        let links = page.split(['"']).filter(|part| part.starts_with('/'));
        assert!(links.into_iter().all(|link| link.starts_with("/srm/-/")), "{page}");
    }
    assert!(page(&mirror, "/-/setup").await.contains("s set registry https://mirror.example/srm/v3"));
}

#[tokio::test]
async fn a_long_list_has_pages_of_fifty_and_each_package_once() {
    let forge = Forge::start().await;
    let aliases = (0..120).map(|n| (format!("p{n:03}"), format!("acme/p{n:03}")));
    let mirror = setup(&forge).with(|config| config.names.aliases = aliases.collect()).start().await;
    let mut path = "/-/".to_owned();
    let mut seen = Vec::new();
    for expected in [50, 50, 20] {
        let page = page(&mirror, &path).await;
        let rows: Vec<_> = page.split(">acme/").skip(1).map(|rest| rest[..4].to_owned()).collect();
        assert_eq!(rows.len(), expected, "{path}");
        seen.extend(rows);
        let next = page.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
        path = next.map(|next| next.replace("&#38;", "&")).unwrap_or_default();
    }
    assert_eq!(path, "", "the last page has no next one");
    assert_eq!(seen, (0..120).map(|n| format!("p{n:03}")).collect::<Vec<_>>());
}

/// Rules for the three packages of [`access::forge`], with an administrator.
fn closed(forge: &Forge, has_open: bool) -> Setup {
    let admin = |rule: RuleConfig| RuleConfig { admin: vec!["token:ops".into()], ..rule };
    let mut rules = vec![
        rule(&["acme/*"], &["token:insider"], false),
        rule(&["devsapp/*"], &["token:reader", "token:insider"], false),
    ];
    if has_open {
        rules.push(rule(&["open/*"], &["token:reader"], true));
    }
    with_rules(setup(forge).token("github", "T0KEN"), rules.into_iter().map(admin).collect())
}

async fn bearer(mirror: &Mirror, name: &str, scopes: &[&str]) -> String {
    let ask = json!({"name": name, "scopes": scopes, "packages": [], "expires_at": null, "signs": false});
    format!("Bearer {}", create(mirror, ask).await)
}

#[tokio::test]
async fn without_credentials_and_open_rules_every_page_asks_for_them() {
    let forge = access::forge().await;
    let mirror = closed(&forge, false).start().await;
    for path in
        ["/-/", "/-/health", "/-/setup", "/-/sign-in", "/-/packages/github:acme/secret", "/-/packages/github:no/thing"]
    {
        let got = page_with(&mirror, path, &[]).await;
        assert_eq!((got.status, got.header("content-type")), (401, "text/html; charset=utf-8"), "{path}: {got:?}");
        assert!(got.headers.get_all("www-authenticate").iter().any(|value| value.as_bytes().starts_with(b"Basic")));
    }
    let wrong =
        page_with(&mirror, "/-/", &[("authorization", "Bearer srmt_000000000000000000000000000000000000")]).await;
    assert_eq!((wrong.status, wrong.header("content-type")), (401, "text/html; charset=utf-8"));
    let reader = bearer(&mirror, "reader", &["read"]).await;
    let signed_in = page_with(&mirror, "/-/sign-in", &[("authorization", &reader)]).await;
    assert_eq!((signed_in.status, signed_in.header("location")), (302, "/-/"));
}

#[tokio::test]
async fn a_caller_sees_what_the_rules_give_and_nothing_tells_the_rest_from_what_is_not_there() {
    let forge = access::forge().await;
    let mirror = closed(&forge, true).start().await;
    let insider = bearer(&mirror, "insider", &["read"]).await;
    let reader = bearer(&mirror, "reader", &["read"]).await;
    for package in [PUBLIC, SECRET] {
        let zip = format!("/{package}/zipball/v1.0.0");
        assert_eq!(mirror.get_with(&zip, &[("authorization", &insider)]).await.status, 200);
    }
    assert_eq!(mirror.get(&format!("/{OPEN}/zipball/v1.0.0")).await.status, 200);
    let listed = async |fields: &[(&str, &str)]| {
        let page = text(&page_with(&mirror, "/-/", fields).await);
        [PUBLIC, SECRET, OPEN].map(|name| page.contains(&format!(">{name}</a>")))
    };
    assert_eq!(listed(&[("authorization", &insider)]).await, [true, true, true]);
    assert_eq!(listed(&[("authorization", &reader)]).await, [true, false, true]);
    assert_eq!(listed(&[]).await, [false, false, true]);
    let of = async |package: &str, fields: &[(&str, &str)]| {
        let got = page_with(&mirror, &format!("/-/packages/github:{package}@v1.0.0"), fields).await;
        (got.status, text(&got).replace(package, "NAME"))
    };
    assert_eq!(of(SECRET, &[("authorization", &insider)]).await.0, 200);
    let fields = [("authorization", &reader[..])];
    let hidden = of(SECRET, &fields).await;
    assert_eq!((hidden.0, &hidden), (404, &of("acme/absent", &fields).await));
    let hidden = of(SECRET, &[]).await;
    assert_eq!((hidden.0, &hidden), (401, &of("acme/absent", &[]).await));
    assert_eq!(of(OPEN, &[]).await.0, 200);
}

#[tokio::test]
async fn with_rules_the_state_in_detail_is_for_administrators_and_its_sentence_for_readers() {
    let forge = access::forge().await;
    let mirror = closed(&forge, true).start().await;
    let ops = bearer(&mirror, "ops", &["read", "admin"]).await;
    let reader = bearer(&mirror, "reader", &["read"]).await;
    let health = async |fields: &[(&str, &str)]| text(&page_with(&mirror, "/-/health", fields).await);
    let whole = health(&[("authorization", &ops)]).await;
    assert!(whole.contains("GITHUB_TOKEN_1") && whole.contains("<h3 id=\"disk\">"), "{whole}");
    for fields in [&[("authorization", &reader[..])][..], &[]] {
        let reduced = health(fields).await;
        assert!(reduced.contains("Everything works."), "{reduced}");
        assert!(!reduced.contains("GITHUB_TOKEN") && !reduced.contains("<h3"), "{reduced}");
    }
}
