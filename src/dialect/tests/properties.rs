use proptest::prelude::*;

use super::*;

/// Parts of paths, including malformed ones.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "", ".", "..", "/", "//", "%2F", "%2e", "%", "%00", "%ff", "repos", "api", "v3", "simple", "-", "healthz",
            "github", "gitee", "fc3", "devsapp", "core", "releases", "latest", "tags", "zipball", "flat", "metadata",
            "packages", "release", "__", "o__r", "refs", "heads", "1.0.0", "42", "assets", "初", " ", "\n",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ]
}

proptest! {
    #[test]
    fn arbitrary_path_does_not_panic_and_no_error_echoes_a_control_character(
        pieces in proptest::collection::vec(piece(), 0..10), query in proptest::option::of("\\PC{0,20}"), slash: bool,
    ) {
        let path = if slash { format!("/{}", pieces.join("/")) } else { pieces.concat() };
        if let Err(error) = parse(&usual(), &Method::GET, &path, query.as_deref()) {
            prop_assert!(!error.message().contains(char::is_control), "{:?}", error);
        }
    }

    #[test]
    fn zipball_url_parses_back_to_the_same_package_and_tag(
        upstream in proptest::sample::select(vec!["github", "gitee"]),
        owner in proptest::sample::select(vec![
            "o", "repos", "Repos", "api", "simple", "v3", "-", "github", "gitee", "fc3", "FC3", "devsapp", "releases", "zipball",
            "my-repos", "...", "a__b", "metrics",
        ]),
        repo in proptest::sample::select(vec![
            "r", "releases", "zipball", "flat", "metadata", "core", "fc3", "repos", "my-repos", "latest", "a.b_c-d",
        ]),
        tag in "[-a-zA-Z0-9._/+%#é@{}!$&'()=;,]{1,20}|refs/(tags|heads)/[a-z/]{1,9}|(dev|repos/x|[0-9a-f]{40})",
        default_owner in proptest::option::of(proptest::sample::select(vec!["devsapp", "o"])),
        dialect in proptest::sample::select(DialectName::ALL.to_vec()),
    ) {
        let aliases = [("fc3", "devsapp/fc3"), ("devsapp/core", "x/core"), ("o/r", "gitee:o/r"), ("releases", "a/b")];
        let names = names(default_owner, &aliases);
        let package = id(&names, &format!("{upstream}:{owner}/{repo}"));
        prop_assume!(format!("refs/tags/{tag}").parse::<Version>().is_ok());
        let url = zipball_url("http://m", &names, &package, &tag, dialect);
        prop_assert!(!url.contains("/repos/"), "{}", url);
        let path = url.strip_prefix("http://m").expect("the base");
        let route = parse(&names, &Method::GET, path, None).expect("a route");
        let found = route.request.package().map(|package| sources(&names, package, route.dialect.name()));
        prop_assert_eq!(found, Some(package.spec()), "{}", url);
        let flat = dialect == DialectName::V3;
        let (ApiRequest::Archive { version, .. } | ApiRequest::Flat { version, .. }) = &route.request else {
            return Err(TestCaseError::fail(url));
        };
        let is_flat = matches!(route.request, ApiRequest::Flat { .. }) || route.dialect == Dialect::V3;
        prop_assert_eq!(is_flat, flat, "{}", url);
        prop_assert_eq!(version.name(), tag.as_str());
        prop_assert!(!matches!(version, Version::Branch(_) | Version::Commit(_)), "{}", url);
    }

    #[test]
    fn v3_name_parses_back_to_the_same_package(
        upstream in proptest::sample::select(vec!["github", "gitee"]),
        owner in proptest::sample::select(vec!["o", "devsapp", "github", "gitee", "x", "a-b", "a__b"]),
        repo in proptest::sample::select(vec!["r", "fc3", "core", "r__s", "releases", "_r", "start-fc3"]),
    ) {
        let names = usual();
        let package = id(&names, &format!("{upstream}:{owner}/{repo}"));
        let Some(name) = names.v3_name(&package) else {
            prop_assert_eq!(owner, "a__b", "every other owner has a name");
            return Ok(());
        };
        let route = parse(&names, &Method::GET, &format!("/v3/packages/{name}/release/latest"), None).expect("a route");
        let found = route.request.package().map(|package| sources(&names, package, DialectName::V3));
        prop_assert_eq!(found, Some(package.spec()));
    }

    #[test]
    fn all_pages_together_are_the_list(per_page in 1_u32..=100, total in 0_usize..300) {
        let items: Vec<usize> = (0..total).collect();
        let pages = (1..).map(|page| PageRequest { per_page, page }.slice(&items)).take_while(|page| !page.is_empty());
        prop_assert_eq!(pages.collect::<Vec<_>>().concat(), items.clone());
        let beyond = PageRequest { per_page, page: u32::MAX };
        prop_assert!(beyond.slice(&items).is_empty());
    }
}
