//! The simple registry: `/simple/[{provider}/]{n}/releases[/latest]` and `/simple/[{provider}/]{n}/zipball/{v}`.

use http::Request;
use serde_json::{Value, json};

use super::{
    super::{
        body::Answer,
        paths::{Path, encode},
    },
    Missing, Package, Registry, Version,
};

/// The provider that may stand before a name.
const PROVIDER: &str = "devsapp";

/// The address of a package, as it was asked: with or without the provider.
struct Asked<'a> {
    provider: &'a str,
    name: &'a str,
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"Response": {"Error": {"Code": code, "Message": message}}}))
}

fn missing(registry: &Registry) -> Answer {
    let options = registry.choices();
    let status = if options.missing == Missing::Ok { 200 } else { 404 };
    error(status, &options.missing_code, &options.missing_text)
}

/// Responds to a request to the simple registry.
pub fn answer(registry: &Registry, request: &Request<()>) -> Answer {
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return error(405, "MethodNotAllowed", "Method Not Allowed");
    }
    let caller = match registry.caller(request.headers()) {
        Ok(caller) => caller,
        Err(status) => return error(status, "SignatureError", "签名校验失败"),
    };
    let path = Path::of(request.uri());
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let (asked, rest) = match *segments.as_slice() {
        ["simple", name, ref rest @ ("releases" | "zipball"), ref more @ ..] => {
            (Asked { provider: "", name }, (rest, more))
        }
        ["simple", PROVIDER, name, ref rest, ref more @ ..] => (Asked { provider: "devsapp/", name }, (rest, more)),
        _ => return missing(registry),
    };
    let packages = registry.0.packages.lock().unwrap();
    if let (&"zipball", tag) = rest {
        let package = registry.find_for_zip(&packages, asked.name, caller);
        return match package.and_then(|package| Some((package, package.version(&tag.join("/"))?))) {
            Some((package, version)) => registry.zip(request.headers(), package, version),
            None => missing(registry),
        };
    }
    let Some(package) = registry.find(&packages, asked.name, caller) else { return missing(registry) };
    let show = |version: &Version| release_json(registry, &asked, package, version);
    let value = match rest {
        (&"releases", []) => package.newest_first().into_iter().map(show).collect(),
        (&"releases", ["latest"]) => match package.latest() {
            Some(version) => show(version),
            None => return missing(registry),
        },
        _ => return missing(registry),
    };
    let whole = json!({"Response": &value});
    registry.json(request.headers(), &value, &whole)
}

fn release_json(registry: &Registry, asked: &Asked<'_>, package: &Package, version: &Version) -> Value {
    let options = registry.choices();
    let base = options.zipball_base.as_deref().unwrap_or(registry.base());
    let address = format!("{base}/{}{}/zipball/{}", asked.provider, encode(&package.name), encode(&version.tag));
    let mut release = json!({
        "tag_name": version.tag, "name": version.spec.title, "zipball_url": address, "body": version.spec.body,
    });
    if let Some(time) = options.times.write(version.created_at) {
        let field = if options.created_at { "created_at" } else { "published_at" };
        release[field] = time.into();
    }
    release
}
