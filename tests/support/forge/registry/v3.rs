//! The v3 registry: `/v3/packages/…` and `/v3/common/…`. Every body is an envelope; a string in it is an error.

use http::{HeaderMap, Request};
use serde_json::{Value, json};

use super::{
    super::{body::Answer, paths::Path},
    AfterLast, Missing, Registry,
    caller::Caller,
    v3_json::{Filter, catalog, named, release_json, row_json},
};

/// Length of a page of the catalog.
const CATALOG_PAGE: usize = 20;

fn text(registry: &Registry, status: u16, text: &str) -> Answer {
    Answer::json(status, &json!({"request_id": registry.request_id(), "body": text}))
}

fn missing(registry: &Registry) -> Answer {
    let options = registry.choices();
    let status = if options.missing == Missing::Ok { 200 } else { 404 };
    text(registry, status, &options.missing_text)
}

fn show(registry: &Registry, headers: &HeaderMap, body: &Value) -> Answer {
    let whole = json!({"request_id": registry.request_id(), "body": body});
    registry.json(headers, body, &whole)
}

/// Responds to a request to the v3 registry.
pub fn answer(registry: &Registry, request: &Request<()>) -> Answer {
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return text(registry, 405, "Method Not Allowed");
    }
    let headers = request.headers();
    let caller = match registry.caller(headers) {
        Ok(caller) => caller,
        Err(status) => return text(registry, status, "签名校验失败"),
    };
    let path = Path::of(request.uri());
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let packages = registry.0.packages.lock().unwrap();
    match *segments.as_slice() {
        ["v3", "packages", "releases"] => {
            let rows = catalog(&packages, &Filter::of(&path), caller == Caller::Known);
            let shown = match path.query("page") {
                Some("-1") => rows.as_slice(),
                page => {
                    let page = page.and_then(|page| page.parse().ok()).unwrap_or(1).max(1);
                    rows.chunks(CATALOG_PAGE).nth(page - 1).unwrap_or_default()
                }
            };
            let options = registry.choices();
            let rows = shown.iter().map(|package| row_json(&options, &packages, package)).collect();
            show(registry, headers, &rows)
        }
        ["v3", "common", "categories"] => show(registry, headers, &named(&packages.categories())),
        ["v3", "common", "providers"] => show(registry, headers, &named(&packages.providers())),
        ["v3", "packages", name, "zipball", ref tag @ ..] => {
            let package = registry.find_for_zip(&packages, name, caller);
            match package.and_then(|package| Some((package, package.version(&tag.join("/"))?))) {
                Some((package, version)) => registry.zip(headers, package, version),
                None => missing(registry),
            }
        }
        ["v3", "packages", name, "release", ref rest @ ..] => {
            let Some(package) = registry.find(&packages, name, caller) else { return missing(registry) };
            let version = match *rest {
                [] => return list(registry, headers, package, &path),
                ["latest"] => package.latest(),
                ["tags", ref tag @ ..] => package.version(&tag.join("/")),
                _ => None,
            };
            let Some(version) = version else { return missing(registry) };
            let english = path.query("lang") == Some("en");
            show(registry, headers, &release_json(registry, package, version, english))
        }
        _ => text(registry, 404, "Not Found"),
    }
}

/// One page of a package's versions, newest first.
fn list(registry: &Registry, headers: &HeaderMap, package: &super::Package, path: &Path) -> Answer {
    let options = registry.choices();
    let versions = package.newest_first();
    let pages: Vec<_> = versions.chunks(options.page_size.max(1)).collect();
    let page = path.query("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1).max(1);
    let shown = match (pages.get(page - 1), options.after_last) {
        (Some(page), _) => *page,
        (None, AfterLast::Repeat) => pages.last().copied().unwrap_or_default(),
        (None, AfterLast::Empty) => &[],
    };
    let rows = shown.iter().map(|version| super::v3_json::version_json(registry, package, version)).collect();
    show(registry, headers, &rows)
}
