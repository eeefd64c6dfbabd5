//! The `[[routes]]` tables, and the table and the sentence that are made of them.

use super::*;

#[test]
fn each_wrong_route_is_reported_with_its_table_key_line_reason_and_example() {
    let table = |rest: &str| format!("[server]\n[[routes]]\npackages = \"x/*\"\nupstreams = []\n[[routes]]\n{rest}\n");
    for (rest, message) in [
        (
            "packages = \"a/*\"\nupstreams = [\"gihub\"]",
            "config: routes[2].upstreams = [\"gihub\"] (mirror.toml:5): no upstream is called gihub; the upstreams are ",
        ),
        ("packages = \"a/*\"\nupstreams = [\"gihub\"]", "; did you mean \"github\"?"),
        (
            "packages = \"a b\"\nupstreams = []",
            "config: routes[2].packages = \"a b\" (mirror.toml:5): not a pattern of packages; write for example ",
        ),
        (
            "packages = \"github:a/*\"\nupstreams = []",
            "config: routes[2].packages = \"github:a/*\" (mirror.toml:5): a route is for names without an upstream; ",
        ),
        (
            "packages = \"a/*\"\nupstreams = []\ndialect = \"v33\"",
            "config: routes[2].dialect = \"v33\" (mirror.toml:5): no such dialect; the dialects are srm, simple, v3, \
             github; did you mean \"v3\"?",
        ),
        (
            "packages = \"fc*\"\nupstreams = [\"github\"]",
            "config: routes[2].upstreams = [\"github\"] (mirror.toml:5): github has no packages of the form name; set \
             names.default_owner, or write owner/name in packages; for example upstreams = [\"official\"]",
        ),
        (
            "packages = \"a/*\"\nupstreams = [\"github\", \"github\"]",
            "config: routes[2].upstreams = [\"github\", \"github\"] (mirror.toml:5): github stands here twice",
        ),
        (
            "packages = \"X/*\"\nupstreams = []\ndialect = \"v3\"",
            "config: routes[2].packages = \"X/*\" (mirror.toml:5): table 1 has the same packages, and the first table \
             that matches decides; remove one of the two",
        ),
        (
            "packages = \"a/*\"",
            "config: routes[2] (mirror.toml:5): upstreams is missing; for example upstreams = [\"of",
        ),
        (
            "packages = \"a/*\"\nupstream = []",
            "config: routes[2].upstream = [] (mirror.toml:5): no such key; did you mean upstreams?; the keys are packages, \
             dialect and upstreams",
        ),
        (
            "packages = 1\nupstreams = []",
            "config: routes[2].packages = 1 (mirror.toml:5): must be a string in quotes; for example packages = \"fc*\"",
        ),
        (
            "packages = \"a/*\"\nupstreams = \"github\"",
            "config: routes[2].upstreams = \"github\" (mirror.toml:5): must be a list of strings; for example upstreams = \
             [\"official\"]",
        ),
    ] {
        let error = error_of(&table(rest), &[]);
        assert!(error.contains(message), "{rest}\n{error}\n{message}");
    }
    let error = error_of("", &[("SRM_MIRROR__ROUTES", "[{packages = \"a/*\", upstreams = [\"x\"]}]")]);
    assert!(error.starts_with("config: routes[1].upstreams = [\"x\"] (SRM_MIRROR__ROUTES): no upstream is"), "{error}");
    assert!(
        error_of("routes = [1]", &[]).starts_with("config: routes[1] (mirror.toml:1): must be a table; for example")
    );
    assert!(error_of("routes = 1", &[]).starts_with("config: routes = 1 (mirror.toml:1): must be a list; for example"));
}

#[test]
fn routes_of_one_pattern_may_differ_in_their_dialects() {
    let text = "[[routes]]\npackages = \"a/*\"\ndialect = \"v3\"\nupstreams = [\"gitee\"]\n\
                [[routes]]\npackages = \"a/*\"\nupstreams = [\"github\", \"gitee\"]\n";
    let loaded = loaded(text, &[]).expect("valid");
    assert_eq!(loaded.config.routes.len(), 2);
    let shown = loaded.show();
    for row in [
        "#   packages     dialect  upstreams           set by\n",
        "#   a/*          v3       gitee               routes\n",
        "#   a/*          all      github, then gitee  routes\n",
        "#   */*          all      github              names.default_upstream\n",
    ] {
        let row = row.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(lines.contains(&row), "{row}\n{shown}");
    }
}

#[test]
fn the_start_says_where_plain_names_come_from() {
    let said = |text: &str| {
        let loaded = loaded(text, &[]).expect(text);
        plain_names(&loaded.config, &loaded.config.names().expect("names"))
    };
    assert_eq!(said("names.default_owner = \"devsapp\""), "plain names: owner devsapp on github");
    assert_eq!(said("names.official = false"), "plain names: none (names.official is off)");
    let closed = said("packages.allow = [\"acme/*\"]");
    assert!(closed.starts_with("plain names: none (packages.allow is set; "), "{closed}");
    let table = "names.default_owner = \"devsapp\"\n[[routes]]\npackages = \"fc*\"\nupstreams = [\"gitee\"]";
    assert_eq!(said(table), "plain names: by one table of routes, else owner devsapp on github");
}
