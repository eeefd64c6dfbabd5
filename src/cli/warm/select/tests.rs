use super::*;

fn releases() -> Vec<ReleaseRow> {
    let made = |(tag, day): (&str, &str)| ReleaseRow {
        tag: tag.into(),
        created_at: Some("2020-01-01T00:00:00Z".parse().expect("a time")),
        published_at: Some(format!("2024-05-{day}T00:00:00Z").parse().expect("a time")),
        prerelease: tag.contains("rc") || tag == "v1.9.0",
        stored: false,
        len: None,
    };
    [("v2.0.0-rc.1", "30"), ("v1.9.0", "20"), ("v1.2.10", "10"), ("1.2.9", "09"), ("nightly", "08"), ("v0.9.0", "01")]
        .map(made)
        .into()
}

fn chosen(text: &str, limits: &VersionLimits) -> Result<Vec<String>, NoVersion> {
    let spec: PackageSpec = text.parse().expect("a package spec");
    let choice = choose(&spec, &releases(), Some("v1.2.10"), limits)?;
    Ok(choice.chosen.into_iter().map(|chosen| chosen.version).collect())
}

fn latest(count: usize) -> VersionLimits {
    VersionLimits { latest: Some(count), ..VersionLimits::default() }
}

#[test]
fn each_form_of_a_version_spec_selects_what_the_grammar_defines() {
    for (text, expected) in [
        ("a/b", &["v1.2.10"][..]),
        ("a/b@latest", &["v1.2.10"]),
        ("a/b@1.2.10", &["v1.2.10"]),
        ("a/b@v1.2.9", &["1.2.9"]),
        ("a/b@nightly", &["nightly"]),
        ("a/b@^1.2", &["v1.2.10", "1.2.9"]),
        ("a/b@>=2.0.0-rc.0", &["v2.0.0-rc.1"]),
        ("a/b@1.2", &["1.2"]),
        ("a/b@refs/heads/main", &["refs/heads/main"]),
        ("a/b@all", &["v2.0.0-rc.1", "v1.9.0", "v1.2.10", "1.2.9", "nightly", "v0.9.0"]),
    ] {
        assert_eq!(chosen(text, &VersionLimits::default()).expect("something"), expected, "{text}");
    }
    assert!(
        chosen("a/b@^7", &VersionLimits::default())
            .expect_err("nothing")
            .to_string()
            .contains("none of its 6 releases fits ^7")
    );
}

#[test]
fn latest_n_selects_the_newest_releases_that_are_no_prereleases() {
    assert_eq!(chosen("a/b", &latest(3)).expect("some"), ["v1.2.10", "1.2.9", "nightly"]);
    assert_eq!(chosen("a/b@^1", &latest(1)).expect("some"), ["v1.2.10"]);
    assert_eq!(chosen("a/b@all", &latest(2)).expect("some"), ["v2.0.0-rc.1", "v1.9.0"]);
}

#[test]
fn an_excluded_or_too_young_version_is_left_out_and_named() {
    let exclude = ["@nightly", "A/b@*-rc*", "other/*"].map(|text| Exclude::parse(text).expect("a pattern")).into();
    let not_after = Some("2024-05-09T12:00:00Z".parse().expect("a time"));
    let limits = VersionLimits { latest: None, exclude, not_after };
    let choice = choose(&"a/b@all".parse().expect("a package spec"), &releases(), None, &limits).expect("some");
    let versions: Vec<_> = choice.chosen.iter().map(|chosen| chosen.version.as_str()).collect();
    assert_eq!(versions, ["1.2.9", "v0.9.0"]);
    let skipped: Vec<_> = choice.skipped.iter().map(|(version, why)| (version.as_str(), *why)).collect();
    let young = "younger than --min-age";
    assert_eq!(skipped, [("v2.0.0-rc.1", "excluded"), ("v1.9.0", young), ("v1.2.10", young), ("nightly", "excluded")]);
}

#[test]
fn a_pattern_without_a_version_excludes_the_whole_package() {
    let whole = |pattern: &str, package: &str| {
        let spec: PackageSpec = package.parse().expect("a package spec");
        Exclude::parse(pattern).expect("a pattern").matches_package(&spec.package)
    };
    assert!(whole("devsapp/*", "DevsApp/fc3") && whole("*/fc3", "gitee:devsapp/fc3") && whole("gitee:*", "gitee:a/b"));
    assert!(!whole("gitee:*", "a/b") && !whole("devsapp/fc3@1", "devsapp/fc3"));
    assert!(Exclude::parse("").is_err() && Exclude::parse("@").is_err());
}
