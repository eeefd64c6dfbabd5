//! The 3.x registry (`api.devsapp.cn/v3`): names without a slash, and an envelope whose `body` is a text for an error.

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::{
    ApiRequest, CatalogMenu, CatalogQuery, DialectName, EnvelopePart, HostedNames, Names, PackageId, PackageRef,
    READ_METHODS, Reason, RowPage,
    srm::{parse_version, unknown_route},
};
use crate::package::{NameForm, PackageName};

/// The error of routes that write, where nothing can be published.
const READ_ONLY_MESSAGE: &str =
    "this registry is a mirror and hosts nothing of its own: publish, remove and login are done at the real registry";
/// The error of the page that clients log in at.
const LOGIN_MESSAGE: &str = "this mirror has no page to log in at and issues its own codes: ask its operator for one \
     (srm-mirror token create --cli), and log in with s registry login --token";

/// The error of routes that write, where packages can be published.
const UNKNOWN_WRITE_MESSAGE: &str = "nothing is written at this address; publish with POST of /v3/packages/releases, \
     delete with DELETE of /v3/packages/{name}/release/tags/{version}";
/// The first segment of upload addresses.
const UPLOADS: &str = "uploads";

/// Parses the segments after `/v3`.
pub(super) fn parse(names: &Names, segments: &[&str], query: &str) -> Result<ApiRequest, Reason> {
    match segments {
        ["packages", "releases"] => Ok(ApiRequest::Catalog(CatalogQuery::parse(query)?)),
        ["packages", name, "release", rest @ ..] => {
            let package = parse_package(names, name)?;
            match rest {
                [] => Ok(ApiRequest::Detail { package, page: RowPage::parse(query)? }),
                ["latest"] => Ok(ApiRequest::Latest { package }),
                ["tags", version @ ..] => Ok(ApiRequest::Tag { package, version: parse_version(version)? }),
                _ => Err(unknown_route()),
            }
        }
        ["packages", name, "zipball", version @ ..] => {
            Ok(ApiRequest::Archive { package: parse_package(names, name)?, version: parse_version(version)? })
        }
        ["common", "categories"] => Ok(ApiRequest::Menu(CatalogMenu::Categories)),
        ["common", "providers"] => Ok(ApiRequest::Menu(CatalogMenu::Providers)),
        ["package", "user"] => Ok(ApiRequest::OwnPackages(RowPage::parse(query)?)),
        ["user", ..] => Err(Reason::NotFound(LOGIN_MESSAGE.into())),
        _ => Err(unknown_route()),
    }
}

/// Parses the segments after `/v3` of a request whose method is neither GET nor HEAD.
pub(super) fn parse_write(names: &Names, method: &Method, segments: &[&str]) -> Result<ApiRequest, Reason> {
    let is_hosting = HostedNames::of(names).is_enabled();
    match (method, segments) {
        (&Method::POST, ["user", "token"]) => Ok(ApiRequest::RenewCode),
        _ if !is_hosting => Err(Reason::MethodNotAllowed { allow: READ_METHODS, message: READ_ONLY_MESSAGE.into() }),
        (&Method::POST, ["packages", "releases"]) => Ok(ApiRequest::Reserve),
        (&Method::PUT, [UPLOADS, name, version]) => {
            Ok(ApiRequest::Upload { package: parse_package(names, name)?, version: version.parse()? })
        }
        (&Method::DELETE, ["packages", name, "release", "tags", version @ ..]) => {
            Ok(ApiRequest::Delete { package: parse_package(names, name)?, version: parse_version(version)? })
        }
        _ => Err(Reason::NotFound(UNKNOWN_WRITE_MESSAGE.into())),
    }
}

/// True for a request that has the form of an upload, whatever it names and whether packages are published here.
pub(crate) fn is_upload(method: &Method, path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    *method == Method::PUT && segments.next() == Some("v3") && segments.next() == Some(UPLOADS)
}

impl HostedNames<'_> {
    /// The path of the address that a reserved version of a package is uploaded to. Neither text has a slash.
    pub fn upload_path(&self, package: &str, version: &str) -> String {
        format!("/v3/{UPLOADS}/{package}/{version}")
    }
}

/// Parses a name: an alias, `{upstream}__name` on a registry, `{upstream}__owner__repo` on a forge, `owner__repo` (split
/// at the first `__`), or a plain name.
fn parse_package(names: &Names, name: &str) -> Result<PackageRef, Reason> {
    if let Some(package) = names.alias(name) {
        return Ok(package.clone());
    }
    let Some((first, rest)) = name.split_once("__") else { return Ok(PackageRef::Routed(PackageName::plain(name)?)) };
    let Some(upstream) = names.upstream(first) else { return Ok(names.reference(PackageName::new(first, rest)?)) };
    let name = match (upstream.form, rest.split_once("__")) {
        (NameForm::Plain, _) => PackageName::plain(rest)?,
        (NameForm::Repository, Some((owner, repo))) => PackageName::new(owner, repo)?,
        (NameForm::Repository, None) => {
            return Err(Reason::BadRequest(format!("{first} is an upstream; write {first}__owner__repo")));
        }
    };
    Ok(PackageId { upstream: upstream.name.clone(), name }.into())
}

/// The name that always leads to this package, whatever the routes say: `{upstream}__…`. `None` if it cannot be parsed
/// back (an owner that contains `__`).
pub(super) fn name_on_upstream(names: &Names, package: &PackageId) -> Option<String> {
    let name = match package.name.owner() {
        Some(owner) => format!("{}__{owner}__{}", package.upstream, package.name.base_name()),
        None => format!("{}__{}", package.upstream, package.name),
    };
    parse_package(names, &name).is_ok_and(|found| found == PackageRef::Id(package.clone())).then_some(name)
}

/// The shortest name that [`parse_package`] and the routes map to this package; `None` if no name does.
pub(super) fn name(names: &Names, package: &PackageId) -> Option<String> {
    let mut aliases = names.aliases().filter(|(key, aliased)| !key.contains('/') && *aliased == package);
    if let Some((alias, _)) = aliases.next() {
        return Some(alias.to_owned());
    }
    let base_name = package.name.base_name();
    let plain = PackageName::plain(base_name).ok().map(PackageRef::Routed);
    let leads = |reference: &PackageRef| match reference {
        PackageRef::Id(id) => id == package,
        PackageRef::Folder(_) => false,
        PackageRef::Routed(name) => names.leads_to(name, DialectName::V3, package),
    };
    if !base_name.contains("__") && plain.as_ref().is_some_and(leads) {
        return Some(base_name.to_owned());
    }
    let pair = package.name.owner().map(|owner| format!("{owner}__{base_name}"));
    let pair = pair.filter(|pair| parse_package(names, pair).as_ref().is_ok_and(leads));
    pair.or_else(|| name_on_upstream(names, package))
}

/// `{"request_id": "…", "body": value}`.
pub(super) const V3_ENVELOPE: [EnvelopePart; 5] = [
    EnvelopePart::Text("{\"request_id\":\""),
    EnvelopePart::RequestId,
    EnvelopePart::Text("\",\"body\":"),
    EnvelopePart::Value,
    EnvelopePart::Text("}"),
];

/// `{"request_id": "…", "body": "text"}`.
pub(super) fn error(message: &str, request_id: &str) -> Bytes {
    json!({ "request_id": request_id, "body": message }).to_string().into()
}
