//! The object storage of both registries: zips at signed addresses that expire.

use http::Request;

use super::{
    super::{State, body::Answer, model::utc, paths::Path},
    Registry,
    links::Verdict,
    object,
};

/// Headers that have no place here: the registry's signature and a forge's token.
pub const SECRETS: [&str; 5] = ["authorization", "token", "sign_code", "nonce", "timestamp"];

fn error(status: u16, code: &str, message: &str, details: &str) -> Answer {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n  <Code>{code}</Code>\n  <Message>{message}</Message>\n  \
         <RequestId>65F00000SCRIPTED</RequestId>\n  <HostId>packages.oss-scripted.example</HostId>\n{details}</Error>\n"
    );
    Answer::new(status, "application/xml", text)
        .header("server", "AliyunOSS")
        .header("x-oss-request-id", "65F00000SCRIPTED")
}

fn missing() -> Answer {
    error(404, "NoSuchKey", "The specified key does not exist.", "")
}

/// Responds to a request to the object storage.
pub fn answer(state: &State, request: &Request<()>) -> Answer {
    let headers = request.headers();
    if headers.contains_key("authorization") {
        // As the real storage: a request is signed in its query or in its header.
        return error(400, "InvalidArgument", "Only one of the query and the header may sign a request.", "");
    }
    let path = Path::of(request.uri());
    let [bucket, name, file] = path.segments.as_slice() else { return missing() };
    let of_bucket = |registry: &&Registry| registry.bucket() == bucket;
    let Some(registry) = [&state.official, &state.simple].into_iter().find(of_bucket) else { return missing() };
    let now = registry.now();
    let verdict = registry.0.granted.lock().unwrap().check(request.method().as_str(), request.uri().path(), &path, now);
    match verdict {
        Verdict::Valid => {}
        Verdict::Unsigned => {
            return error(403, "AccessDenied", "You have no right to access this object because of bucket acl.", "");
        }
        Verdict::Mismatch => {
            let message = "The request signature we calculated does not match the signature you provided.";
            return error(403, "SignatureDoesNotMatch", message, "");
        }
        Verdict::Expired { at } => {
            let times = format!("  <Expires>{}</Expires>\n  <ServerTime>{}</ServerTime>\n", utc(at), utc(now));
            return error(403, "AccessDenied", "Request has expired.", &times);
        }
    }
    let packages = registry.0.packages.lock().unwrap();
    let tag = file.strip_suffix(".zip").unwrap_or(file);
    let found = packages.find(name).and_then(|package| Some((package, package.version(tag)?)));
    let Some((package, version)) = found else { return missing() };
    object::answer(headers, &registry.choices(), package, version).header("server", "AliyunOSS")
}
