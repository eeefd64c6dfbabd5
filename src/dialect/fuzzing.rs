//! Fuzz target: paths.

use std::sync::OnceLock;

use http::Method;

use super::{
    ApiRequest, Config, DialectName, NamedUpstream, Names, OfficialRoutes, PackageId, PackageRef, parse, zipball_url,
};
use crate::package::Version;

fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(|| {
        let aliases = [("fc3", "devsapp/fc3"), ("start-x", "github:acme/apps//start-x"), ("a/b", "gitee:c/d")];
        let aliases = aliases.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let config = Config { aliases, ..Config::default() };
        let upstreams = vec![
            NamedUpstream::forge("github"),
            NamedUpstream::forge("gitee"),
            NamedUpstream::registry("official", None),
        ];
        Names::new(&config, &[], upstreams, OfficialRoutes::Off).expect("a valid configuration")
    })
}

/// A path and, after a question mark, a query; the first byte selects the method.
///
/// # Panics
/// When the address of a zip does not lead to the package and the version that it was made for.
pub fn path(data: &[u8]) {
    let Some((method, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let method = [Method::GET, Method::HEAD, Method::POST][usize::from(*method) % 3].clone();
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let route = match parse(names(), &method, path, query) {
        Ok(route) => route,
        Err(error) => {
            assert!(matches!(error.status(), 400 | 404 | 405) && !error.message().is_empty());
            return;
        }
    };
    if let (Some(PackageRef::Id(package)), ApiRequest::Archive { version: Version::Name(tag), .. }) =
        (route.request.package(), &route.request)
    {
        for dialect in [DialectName::Srm, DialectName::Github, DialectName::Simple, DialectName::V3] {
            check_address(package, tag, dialect);
        }
    }
}

fn check_address(package: &PackageId, tag: &str, dialect: DialectName) {
    let url = zipball_url("http://mirror", names(), package, tag, dialect);
    let path = url.strip_prefix("http://mirror").expect("begins with its base");
    let route = parse(names(), &Method::GET, path, None).unwrap_or_else(|error| panic!("{path}: {error:?}"));
    let (found, version) = match &route.request {
        ApiRequest::Archive { package, version } => (package, version),
        // A package whose owner has two underscores in its name has no name in the v3 dialect.
        ApiRequest::Flat { package, version } if dialect == DialectName::V3 => (package, version),
        _ => panic!("{path} is no zip"),
    };
    assert_eq!(version.name(), tag, "{path}");
    match found {
        PackageRef::Id(id) => assert_eq!(id, package, "{path}"),
        PackageRef::Routed(name) => assert!(names().leads_to(name, dialect, package), "{path}"),
        PackageRef::Folder(_) => panic!("{path} is a folder"),
    }
}
