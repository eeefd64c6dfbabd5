//! The 2.x registry (`registry.devsapp.cn/simple`): the srm routes below `/simple`, with a different envelope.
//!
//! Its clients read the value from `body.Response || body` and the error from `body.Error`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::EnvelopePart;

/// `{"Response": value}`.
pub(super) const SIMPLE_ENVELOPE: [EnvelopePart; 3] =
    [EnvelopePart::Text("{\"Response\":"), EnvelopePart::Value, EnvelopePart::Text("}")];

/// `{"Error": {"Code": "NotFound", "Message": "…"}}`; the code is the status's reason phrase without spaces.
pub(super) fn error(status: u16, message: &str, request_id: &str) -> Bytes {
    let name = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let code: String = name.unwrap_or("Error").chars().filter(char::is_ascii_alphanumeric).collect();
    json!({ "RequestId": request_id, "Error": { "Code": code, "Message": message } }).to_string().into()
}
