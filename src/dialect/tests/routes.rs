use super::*;

/// The default upstreams: two forges and the two official registries.
fn upstreams() -> Vec<NamedUpstream> {
    let mut all = forges(&["gitee", "github"]);
    all.push(NamedUpstream::registry("official", None));
    all.push(NamedUpstream::registry("official-2x", Some("devsapp")));
    all
}

fn row(packages: &str, dialect: Option<DialectName>, upstreams: &[&str]) -> RouteConfig {
    let upstreams = upstreams.iter().map(|&name| name.to_owned()).collect();
    RouteConfig { packages: packages.to_owned(), dialect, upstreams }
}

fn routed(config: &Config, rows: &[RouteConfig], official: OfficialRoutes) -> Names {
    Names::new(config, rows, upstreams(), official).expect("a valid configuration")
}

/// The rule and the candidates of a name.
fn show_route(names: &Names, name: &str, dialect: DialectName) -> String {
    let name = name.parse().expect("a name");
    let NameRoute { rule, candidates } = names.route(&name, dialect);
    let candidates: Vec<_> = candidates.iter().map(PackageId::spec).collect();
    format!("{rule:?} {}", candidates.join(" "))
}

#[test]
fn plain_names_come_from_the_official_registry_by_default() {
    let names = routed(&Config::default(), &[], OfficialRoutes::On);
    for (name, dialect, expected) in [
        ("fc3", DialectName::V3, "Default official:fc3"),
        ("fc3", DialectName::Simple, "Default official-2x:fc3 official:fc3"),
        ("fc3", DialectName::Srm, "Default official:fc3 official-2x:fc3"),
        ("devsapp/core", DialectName::Simple, "Default official-2x:core github:devsapp/core"),
        ("devsapp/core", DialectName::Srm, "DefaultUpstream github:devsapp/core"),
        ("devsapp/core", DialectName::Github, "DefaultUpstream github:devsapp/core"),
        ("o/r", DialectName::Simple, "DefaultUpstream github:o/r"),
        ("fc3", DialectName::Github, "NoRoute "),
    ] {
        assert_eq!(show_route(&names, name, dialect), expected, "{name} {dialect:?}");
    }
    let off = routed(&Config::default(), &[], OfficialRoutes::Off);
    assert_eq!(show_route(&off, "fc3", DialectName::V3), "NoRoute ");
    assert_eq!(show_route(&off, "devsapp/core", DialectName::Simple), "DefaultUpstream github:devsapp/core");
}

#[test]
fn a_configured_row_precedes_the_default_owner_which_precedes_the_default_rows() {
    let config = Config { default_owner: Some("acme".into()), ..Config::default() };
    let rows = [
        row("fc*", Some(DialectName::V3), &["official"]),
        row("fc3", None, &["github", "official"]),
        row("secret/*", None, &[]),
        row("devsapp/*", Some(DialectName::Github), &[]),
    ];
    let names = routed(&config, &rows, OfficialRoutes::On);
    for (name, dialect, expected) in [
        ("fc3", DialectName::V3, "Configured official:fc3"),
        ("FC3", DialectName::Srm, "Configured github:acme/FC3 official:FC3"),
        ("other", DialectName::V3, "DefaultOwner github:acme/other"),
        ("secret/x", DialectName::Srm, "Configured "),
        ("devsapp/core", DialectName::Github, "Configured "),
        ("devsapp/core", DialectName::Simple, "Default official-2x:core github:devsapp/core"),
    ] {
        assert_eq!(show_route(&names, name, dialect), expected, "{name} {dialect:?}");
    }
}

#[test]
fn a_row_that_cannot_be_used_is_an_error_with_its_number_and_reason() {
    for (bad, part) in [
        (row("a b", None, &["github"]), "not a pattern"),
        (row("gitee:x/y", None, &["github"]), "without an upstream"),
        (row("x/*", None, &["gitlab"]), "no upstream is called gitlab"),
        (row("fc*", None, &["github"]), "set names.default_owner"),
        (row("acme/*", None, &["official"]), "plain names"),
        (row("acme/*", None, &["official-2x"]), "plain names"),
    ] {
        let rows = [row("ok/*", None, &["github"]), bad];
        let error = Names::new(&Config::default(), &rows, upstreams(), OfficialRoutes::On).expect_err(part).to_string();
        assert!(error.starts_with("routes, table 2: ") && error.contains(part), "{error}");
    }
}

#[test]
fn a_path_below_a_registry_has_plain_names() {
    let names = routed(&Config::default(), &[], OfficialRoutes::On);
    check(
        &names,
        &[
            ("/official/fc3/releases", "srm official:fc3 releases"),
            ("/official/Fc3/zipball/0.1.22", "srm official:Fc3 zip Name(\"0.1.22\")"),
            ("/official-2x/core/releases/latest", "srm official-2x:core latest"),
            ("/official-2x/devsapp/core/zipball/1", "srm official-2x:core zip Name(\"1\")"),
            ("/simple/official-2x/core/zipball/1", "simple official-2x:core zip Name(\"1\")"),
            ("/official/devsapp/core/releases", "srm 404"),
            ("/fc3/releases", "srm official:fc3|official-2x:fc3 releases"),
            ("/v3/packages/fc3/release/latest", "v3 official:fc3 latest"),
            ("/v3/packages/official__fc3/zipball/0.1.22", "v3 official:fc3 zip Name(\"0.1.22\")"),
            ("/v3/packages/official__a__b/release/latest", "v3 official:a__b latest"),
            ("/simple/devsapp/core/zipball/1", "simple official-2x:core|github:devsapp/core zip Name(\"1\")"),
            ("/repos/official/fc3", "github github:official/fc3 repository"),
            ("/repos/official/fc3/releases/latest", "github github:official/fc3 latest"),
        ],
    );
}

#[test]
fn zipball_url_and_v3_name_name_the_source_of_a_plain_name() {
    let names = routed(&Config::default(), &[], OfficialRoutes::On);
    let fc3 = id(&names, "official:fc3");
    for (dialect, expected) in [
        (DialectName::Srm, "b/official/fc3/zipball/1"),
        (DialectName::Simple, "b/simple/official/fc3/zipball/1"),
        (DialectName::V3, "b/v3/packages/official__fc3/zipball/1"),
    ] {
        assert_eq!(zipball_url("b", &names, &fc3, "1", dialect), expected);
    }
    assert_eq!(names.v3_name(&fc3).as_deref(), Some("fc3"));
    assert_eq!(names.v3_name(&id(&names, "official-2x:fc")).as_deref(), Some("official-2x__fc"));
    assert_eq!(names.v3_name(&id(&names, "github:o/r")).as_deref(), Some("o__r"));
    // A repository that a route may lead elsewhere has no short address.
    let routed = routed(&Config::default(), &[row("acme/*", None, &["gitee", "github"])], OfficialRoutes::On);
    let acme = id(&routed, "github:acme/x");
    assert_eq!(zipball_url("b", &routed, &acme, "1", DialectName::Srm), "b/github/acme/x/zipball/1");
}

#[test]
fn an_alias_takes_a_name_before_every_route() {
    let aliases = [("fc3".to_owned(), "official-2x:fc3".to_owned()), ("x".to_owned(), "official:Y".to_owned())];
    let config = Config { aliases: aliases.into(), ..Config::default() };
    let names = routed(&config, &[], OfficialRoutes::On);
    check(
        &names,
        &[
            ("/fc3/releases", "srm official-2x:fc3 releases"),
            ("/v3/packages/FC3/release/latest", "v3 official-2x:fc3 latest"),
            ("/x/releases", "srm official:Y releases"),
            ("/y/releases", "srm official:y|official-2x:y releases"),
        ],
    );
}

#[test]
fn the_catalog_asks_the_upstreams_that_plain_names_may_come_from() {
    let owner = Config { default_owner: Some("acme".into()), ..Config::default() };
    let v3 = Some(DialectName::V3);
    for (config, rows, official, expected) in [
        (Config::default(), vec![], OfficialRoutes::On, &["official"][..]),
        (Config::default(), vec![], OfficialRoutes::Off, &[]),
        (owner, vec![], OfficialRoutes::On, &[]),
        (Config::default(), vec![row("fc*", v3, &["official-2x"])], OfficialRoutes::On, &["official-2x", "official"]),
        (Config::default(), vec![row("fc*", None, &["official"])], OfficialRoutes::On, &["official"]),
        (Config::default(), vec![row("*", None, &["official-2x"])], OfficialRoutes::On, &["official-2x"]),
        (Config::default(), vec![row("*", v3, &[])], OfficialRoutes::On, &[]),
        (Config::default(), vec![row("*", Some(DialectName::Srm), &["github"])], OfficialRoutes::On, &["official"]),
        (Config::default(), vec![row("acme/*", None, &["github"])], OfficialRoutes::Off, &[]),
    ] {
        let asked = routed(&config, &rows, official).upstreams_of_plain_names(DialectName::V3);
        let asked: Vec<&str> = asked.iter().map(AsRef::as_ref).collect();
        assert_eq!(asked, expected, "{rows:?}");
    }
}

#[test]
fn a_package_of_a_registry_has_its_address_in_the_github_dialect_where_one_leads_to_it() {
    let aliases = [("acme/fc3".to_owned(), "official:fc3".to_owned())];
    let config = Config { aliases: aliases.into(), ..Config::default() };
    let rows = [row("devsapp/*", Some(DialectName::Github), &["official-2x"])];
    let names = routed(&config, &rows, OfficialRoutes::On);
    for (package, path) in [
        ("official:fc3", "acme/fc3"),
        ("official-2x:core", "devsapp/core"),
        ("github:o/r", "o/r"),
        ("gitee:o/r", "gitee/o/r"),
    ] {
        let package = id(&names, package);
        assert_eq!(names.api_path(&package), path);
        let releases = format!("/repos/{path}/releases");
        assert_eq!(parse_line(&names, &releases), format!("github {} releases", package.spec()));
    }
}
