//! The 2.x registry (`registry.devsapp.cn/simple`): the srm routes under `/simple`, in an envelope of its own.
//!
//! Its clients take `body.Response || body` as the value and `body.Error` as an error.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

/// `{"Response": value}`.
pub(super) fn success(value: &[u8]) -> Bytes {
    [b"{\"Response\":", value, b"}"].concat().into()
}

/// `{"Error": {"Code": "NotFound", "Message": "…"}}`; the code is the status's name.
pub(super) fn error(status: u16, message: &str) -> Bytes {
    let name = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let code: String = name.unwrap_or("Error").chars().filter(char::is_ascii_alphanumeric).collect();
    json!({ "Error": { "Code": code, "Message": message } }).to_string().into()
}
