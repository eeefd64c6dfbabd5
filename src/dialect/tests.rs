use super::*;

mod folders;
mod paths;
mod properties;
mod routes;

/// Names on the upstreams github and gitee, with a default owner and aliases.
fn names(default_owner: Option<&str>, aliases: &[(&str, &str)]) -> Names {
    let config = Config {
        default_owner: default_owner.map(str::to_owned),
        aliases: aliases.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..Config::default()
    };
    Names::new(&config, &[], forges(&["github", "gitee"]), OfficialRoutes::Off).expect("a valid configuration")
}

fn forges(names: &[&str]) -> Vec<NamedUpstream> {
    names.iter().map(|name| NamedUpstream::forge(name)).collect()
}

/// Where a package comes from while nothing is recorded: `upstream:name`, several with `|`; `nowhere` without a route.
fn sources(names: &Names, package: &PackageRef, dialect: DialectName) -> String {
    let candidates = match package {
        PackageRef::Id(id) => vec![id.clone()],
        PackageRef::Folder(folder) => return format!("{}//{}", folder.repository.spec(), folder.path),
        PackageRef::Routed(name) => names.route(name, dialect).candidates,
    };
    let specs: Vec<_> = candidates.iter().map(PackageId::spec).collect();
    if specs.is_empty() { format!("nowhere:{}", package.name()) } else { specs.join("|") }
}

/// The package of a text that names it on an upstream or by an alias.
fn id(names: &Names, text: &str) -> PackageId {
    match names.parse_package(text).expect(text) {
        PackageRef::Id(id) => id,
        PackageRef::Folder(folder) => panic!("a folder: {folder}"),
        PackageRef::Routed(name) => names.route(&name, DialectName::Srm).candidates.remove(0),
    }
}

fn usual() -> Names {
    names(
        Some("devsapp"),
        &[("fc3", "devsapp/fc3"), ("Start", "gitee:devsapp/start-fc3"), ("devsapp/core", "Serverless-Devs/core")],
    )
}

fn show_rows(page: RowPage) -> String {
    match page {
        RowPage::All => "all".into(),
        RowPage::One(page) => format!("{}x{}", page.page, page.per_page),
    }
}

/// The filters that are set, and the page.
fn show_catalog(query: &CatalogQuery) -> String {
    let mut shown = String::from("catalog");
    let CatalogQuery { search, category, tag, provider, kind, page } = query;
    for (name, value) in [("search", search), ("category", category), ("tag", tag), ("provider", provider)] {
        if let Some(value) = value {
            shown.push_str(&format!(" {name}={value}"));
        }
    }
    if let Some(kind) = kind {
        shown.push_str(&format!(" type={kind:?}"));
    }
    format!("{shown} {}", show_rows(*page))
}

/// A route or an error in one line.
fn show(names: &Names, result: Result<Route, RouteError>) -> String {
    fn dialect(dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Srm => "srm",
            Dialect::Github(ApiRoot::Plain) => "github",
            Dialect::Github(ApiRoot::ApiV3) => "github/api/v3",
            Dialect::Simple => "simple",
            Dialect::V3 => "v3",
        }
    }
    let route = match result {
        Ok(route) => route,
        Err(error) => return format!("{} {}", dialect(error.dialect), error.status()),
    };
    let page = |page: PageRequest| show_rows(RowPage::One(page));
    let package = route.request.package().map(|package| sources(names, package, route.dialect.name()));
    let what = match route.request {
        ApiRequest::Releases { page: None, .. } => "releases".into(),
        ApiRequest::Releases { page: Some(of), .. } => format!("releases {}", page(of)),
        ApiRequest::Latest { .. } => "latest".into(),
        ApiRequest::Tag { version, .. } => format!("tag {version:?}"),
        ApiRequest::ById { id, assets, .. } => format!("id {id} {assets}"),
        ApiRequest::Archive { version, .. } => format!("zip {version:?}"),
        ApiRequest::Flat { version, .. } => format!("flat {version:?}"),
        ApiRequest::Metadata { version, .. } => format!("metadata {version:?}"),
        ApiRequest::Repository { .. } => "repository".into(),
        ApiRequest::Catalog(query) => show_catalog(&query),
        ApiRequest::Menu(menu) => format!("{menu:?}"),
        ApiRequest::OwnPackages(of) => format!("own packages {}", show_rows(of)),
        ApiRequest::RenewCode => "renew code".into(),
        ApiRequest::Detail { page: of, .. } => format!("detail {}", show_rows(of)),
        ApiRequest::Publish { version, .. } => format!("publish {version:?}"),
        ApiRequest::Delete { version, .. } => format!("delete {version:?}"),
        ApiRequest::Reserve => "reserve".into(),
        ApiRequest::Upload { version, .. } => format!("upload {version:?}"),
        ApiRequest::Ops(ops) => format!("{ops:?}"),
    };
    [dialect(route.dialect), &package.unwrap_or_default(), &what].join(" ").replace("  ", " ")
}

/// Parses `path?query` as a GET, or `METHOD path?query`.
fn parse_line(names: &Names, request: &str) -> String {
    let (method, address) = request.split_once(' ').unwrap_or(("GET", request));
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    show(names, parse(names, &method.parse().expect("a method"), path, query))
}

fn check(names: &Names, table: &[(&str, &str)]) {
    for (request, expected) in table {
        assert_eq!(parse_line(names, request), *expected, "{request}");
    }
}

#[test]
fn zipball_url_as_rewritten_by_the_2x_cli_is_a_route() {
    let names = usual();
    for (tag, expected) in
        [("dev", "Tag(\"dev\")"), ("1.0.0", "Name(\"1.0.0\")"), ("a/dev", "Name(\"a/refs/tags/dev\")")]
    {
        let package = id(&names, "devsapp/fc3");
        let url = zipball_url("https://api.github.com", &names, &package, tag, DialectName::Github);
        // loadComponent.ts replaces the host, removes the first `repos/` and rewrites a final `/dev`.
        let rewritten = url.replace("https://api.github.com", "").replacen("repos/", "", 1);
        let rewritten = rewritten.strip_suffix("/dev").map_or(rewritten.clone(), |url| format!("{url}/refs/tags/dev"));
        assert_eq!(parse_line(&names, &rewritten), format!("srm github:devsapp/fc3 zip {expected}"));
    }
}

#[test]
fn zipball_url_names_the_upstream_only_if_the_short_form_is_ambiguous() {
    const SRM: DialectName = DialectName::Srm;
    let names = usual();
    for (package, tag, dialect, expected) in [
        ("devsapp/fc3", "v1.1.13", SRM, "b/devsapp/fc3/zipball/v1.1.13"),
        ("devsapp/fc3", "v1.1.13", DialectName::V3, "b/v3/packages/github__devsapp__fc3/zipball/v1.1.13"),
        ("a__b/fc3", "v1.1.13", DialectName::V3, "b/github/a__b/fc3/flat/v1.1.13"),
        ("devsapp/fc3", "v1.1.13", DialectName::Simple, "b/simple/github/devsapp/fc3/zipball/v1.1.13"),
        ("gitee:o/r", "1", SRM, "b/gitee/o/r/zipball/1"),
        ("simple/r", "1", SRM, "b/github/simple/r/zipball/1"),
        ("GitHub/hub", "1", SRM, "b/github/GitHub/hub/zipball/1"),
        ("github:devsapp/core", "1", SRM, "b/github/devsapp/core/zipball/1"),
        ("fc3/releases", "1", SRM, "b/github/fc3/releases/zipball/1"),
        ("fc/releases", "1", SRM, "b/fc/releases/zipball/1"),
        ("repos/repos", "repos/x", SRM, "b/github/repo%73/repo%73/zipball/repo%73/x"),
        ("o/r", "a/b+c#d%é", SRM, "b/o/r/zipball/a/b%2Bc%23d%25%C3%A9"),
        ("o/r", "refs/tags/x", SRM, "b/o/r/zipball/refs/tags/refs/tags/x"),
        ("o/r", "refs/heads/x", SRM, "b/o/r/zipball/refs/tags/refs/heads/x"),
    ] {
        // The upstream prefix bypasses the aliases.
        let package = if package.contains(':') { package.to_owned() } else { format!("github:{package}") };
        let package = id(&names, &package);
        assert_eq!(zipball_url("b", &names, &package, tag, dialect), expected);
    }
}

#[test]
fn names_error_has_the_key_the_value_the_reason_and_an_example() {
    let build = |config: Config, upstreams: &[&str]| {
        Names::new(&config, &[], forges(upstreams), OfficialRoutes::Off).expect_err("a bad configuration")
    };
    let alias =
        |key: &str, value: &str| Config { aliases: [(key.to_owned(), value.to_owned())].into(), ..Config::default() };
    for (error, parts) in [
        (build(alias("fc3", "fc3"), &["github"]), ["names.aliases.fc3 = \"fc3\"", "owner/repo", "devsapp/fc3"]),
        (build(alias("a/b", "x:o/r"), &["github"]), ["names.aliases.\"a/b\"", "no upstream is called x", "\"a/b\" = "]),
        (build(alias("simple", "o/r"), &["github"]), ["names.aliases.simple", "no path reaches it", "for example"]),
        (build(alias("GitHub/x", "o/r"), &["github"]), ["names.aliases.", "no path reaches it", "for example"]),
        (build(alias("a b", "o/r"), &["github"]), ["names.aliases.a b", "letters, digits", "for example"]),
        (build(alias("a/b/c", "o/r"), &["github"]), ["names.aliases.", "letters, digits", "for example"]),
        (build(alias("x", "o/r/s"), &["github"]), ["names.aliases.x = \"o/r/s\"", "letters, digits", "for example"]),
        (build(Config::default(), &["gitee"]), ["names.default_upstream = \"github\"", "no upstream", "for example"]),
        (build(Config::default(), &["github", "v3"]), ["upstreams.v3", "reserved", "for example"]),
        (build(Config::default(), &["github", "a__b"]), ["upstreams.a__b", "single underscores", "for example"]),
        (build(Config::default(), &["github", "GitHub"]), ["upstreams.GitHub", "taken", "for example"]),
        (
            build(Config { default_owner: Some("a/b".into()), ..Config::default() }, &["github"]),
            ["names.default_owner = \"a/b\"", "letters, digits", "\"devsapp\""],
        ),
    ] {
        for part in parts {
            assert!(error.to_string().contains(part), "{error:?} lacks {part:?}");
        }
    }
    let twice = Config {
        aliases: [("a".to_owned(), "o/r".to_owned()), ("A".to_owned(), "o/s".to_owned())].into(),
        ..Config::default()
    };
    assert!(build(twice, &["github"]).to_string().contains("without case"));
}

#[test]
fn package_is_parsed_as_an_alias_a_pair_or_with_its_upstream() {
    let names = usual();
    for (text, expected) in [
        ("fc3", "devsapp/fc3 on github"),
        ("start", "devsapp/start-fc3 on gitee"),
        ("devsapp/core", "Serverless-Devs/core on github"),
        ("github:devsapp/core", "devsapp/core on github"),
        ("o/r", "o/r on github"),
        ("fc", "devsapp/fc on github"),
    ] {
        assert_eq!(id(&names, text).to_string(), expected);
    }
    for text in ["", "x:o/r", "o/r/s", "gitee:o", ":o/r", "o/"] {
        assert!(names.parse_package(text).is_err(), "{text}");
    }
    let aliases: Vec<_> = names.aliases().map(|(key, _)| key).collect();
    assert_eq!(aliases, ["devsapp/core", "fc3", "start"]);
    assert_eq!(id(&names, "FC3").key_prefix(), "github/devsapp/fc3");
}

#[test]
fn link_field_has_the_other_pages_below_the_path_of_the_request() {
    let link = |page, per_page, total| {
        let link = PageRequest { page, per_page }.link("https://m", "//api/v3/repos/o/r/releases", total);
        link.map(|value| value.to_str().expect("ASCII").replace("https://m/api/v3/repos/o/r/releases", "U"))
    };
    assert_eq!(link(1, 30, 30), None);
    assert_eq!(link(1, 30, 0), None);
    assert_eq!(
        link(1, 30, 31).as_deref(),
        Some("<U?per_page=30&page=2>; rel=\"next\", <U?per_page=30&page=2>; rel=\"last\"")
    );
    assert_eq!(
        link(2, 10, 31).as_deref(),
        Some(
            "<U?per_page=10&page=1>; rel=\"prev\", <U?per_page=10&page=3>; rel=\"next\", \
             <U?per_page=10&page=4>; rel=\"last\", <U?per_page=10&page=1>; rel=\"first\""
        )
    );
    let end = "<U?per_page=10&page=1>; rel=\"prev\", <U?per_page=10&page=1>; rel=\"first\"";
    assert_eq!(link(2, 10, 11).as_deref(), Some(end));
    assert_eq!(link(9, 10, 7).as_deref(), Some(end));
}

#[test]
fn each_dialect_has_its_envelope() {
    let all = [
        ("srm", Dialect::Srm),
        ("github", Dialect::Github(ApiRoot::Plain)),
        ("simple", Dialect::Simple),
        ("v3", Dialect::V3),
    ];
    let mut lines = Vec::new();
    for (name, dialect) in all {
        let parts = dialect.envelope().iter().map(|part| match part {
            EnvelopePart::Text(text) => *text,
            EnvelopePart::RequestId => r#"r\"1"#,
            EnvelopePart::Value => "[{\"tag_name\":\"1\"}]",
        });
        lines.push(format!("{name} 200 {}", parts.collect::<String>()));
        for status in [400, 403, 404, 405, 421, 451, 502, 503, 504, 508] {
            let body = dialect.error(status, None, "a \"reason\"\n", "r\"1");
            lines.push(format!("{name} {status} {}", String::from_utf8_lossy(&body)));
            serde_json::from_slice::<serde_json::Value>(&body).expect("JSON");
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn each_route_error_says_what_to_do() {
    let names = names(None, &[]);
    let requests = [
        "/o/r/issues",
        "/v3/packages/github__fc3/release/latest",
        "/v3/user/check",
        "POST /v3/packages/releases",
        "POST /o/r/releases",
        "/o/r/zipball/a..b",
        "/o/r/zipball/%zz",
        "/o//releases",
        "/o/r%20/releases",
        "/o/r/releases?per_page=1000",
    ];
    let lines = requests.map(|request| {
        let (method, address) = request.split_once(' ').unwrap_or(("GET", request));
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let error = parse(&names, &method.parse().expect("a method"), path, Some(query)).expect_err(request);
        format!("{request}\n  {} {}", error.status(), error.message())
    });
    insta::assert_snapshot!(lines.join("\n"));
}
