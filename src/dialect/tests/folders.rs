use super::*;
use crate::package::FolderPathError;

fn with_folders() -> Names {
    let aliases = [("Start-X", "acme/apps//start-x"), ("deep", "gitee:acme/apps//a/b c/d"), ("x__y", "acme/apps//y")];
    names(None, &aliases)
}

#[test]
fn an_alias_of_a_folder_is_a_package_in_every_dialect_but_github() {
    check(
        &with_folders(),
        &[
            ("/start-x/releases", "srm github:acme/apps//start-x releases"),
            ("/START-X/releases/latest", "srm github:acme/apps//start-x latest"),
            ("/start-x/flat/1.2.3", "srm github:acme/apps//start-x flat Name(\"1.2.3\")"),
            ("/start-x/metadata/1.2.3", "srm github:acme/apps//start-x metadata Some(Name(\"1.2.3\"))"),
            ("/simple/start-x/zipball/1.2.3", "simple github:acme/apps//start-x zip Name(\"1.2.3\")"),
            ("/v3/packages/start-x/release/latest", "v3 github:acme/apps//start-x latest"),
            ("/v3/packages/x__y/zipball/1.2.3", "v3 github:acme/apps//y zip Name(\"1.2.3\")"),
            ("/deep/releases", "srm gitee:acme/apps//a/b c/d releases"),
            ("/repos/start-x", "github 404"),
            ("/repos/start-x/releases/latest", "github 404"),
            ("/github/start-x/releases", "srm 404"),
        ],
    );
}

#[test]
fn zipball_url_of_a_folder_uses_the_alias_and_leads_back() {
    let names = with_folders();
    let folders: Vec<_> = names.folders().cloned().collect();
    assert_eq!(folders.len(), 3);
    for folder in folders {
        for dialect in [DialectName::Srm, DialectName::Simple, DialectName::V3] {
            for version in ["1.2.3", "1.2.3-rc.1+b5", "v1", "a/b", "refs/heads/x"] {
                let url = folder_zipball_url("", &folder, version, dialect);
                let route = parse(&names, &Method::GET, &url, None).expect("a route");
                let ApiRequest::Archive { package, version: parsed } = &route.request else { panic!("{url}") };
                assert_eq!(*package, PackageRef::Folder(folder.clone()), "{url}");
                assert_eq!((parsed.name(), route.dialect.name()), (version, dialect), "{url}");
            }
        }
    }
    let start = names.folders().find(|folder| folder.alias.base_name() == "Start-X").expect("configured");
    assert_eq!(folder_zipball_url("b", start, "1.2.3", DialectName::V3), "b/v3/packages/Start-X/zipball/1.2.3");
    assert_eq!(names.aliases().count(), 0);
}

#[test]
fn an_alias_of_no_folder_is_an_error_that_says_why() {
    let error_of = |key: &str, value: &str| {
        let config = Config { aliases: [(key.to_owned(), value.to_owned())].into(), ..Config::default() };
        let upstreams = [forges(&["github"]), vec![NamedUpstream::registry("official", None)]].concat();
        let error = Names::new(&config, &[], upstreams, OfficialRoutes::Off).expect_err(value);
        assert!(error.to_string().contains("for example start-x = \"github:acme/apps//start-x\""), "{error}");
        match error {
            NamesError::Alias { reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    for (value, reason) in [
        ("acme/apps//", FolderPathError::Empty),
        ("acme/apps///x", FolderPathError::Absolute),
        ("acme/apps//x//y", FolderPathError::EmptyPart),
        ("github:acme/apps//x/../..", FolderPathError::DotPart),
        ("acme/apps//x\\y", FolderPathError::Character),
    ] {
        assert_eq!(error_of("x", value), AliasError::FolderPath(reason), "{value}");
    }
    assert_eq!(error_of("x", "official:fc3//x"), AliasError::FolderOfRegistry("official".into()));
    assert_eq!(error_of("a/x", "acme/apps//x"), AliasError::FolderWithOwner);
}
