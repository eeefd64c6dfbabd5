//! Responses with a JSON body.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::http::body::Body;

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// A response with a JSON body and its header fields; for HEAD without the body.
pub(in crate::service) fn json_response(status: StatusCode, body: Bytes, method: &Method) -> Response<Body> {
    with_json_body(status, Body::full(body), method)
}

/// A response with a body of JSON and its header fields; for HEAD without the body.
pub(super) fn with_json_body(status: StatusCode, body: Body, method: &Method) -> Response<Body> {
    let len = http_body::Body::size_hint(&body).exact().unwrap_or_default();
    let mut response = Response::new(if *method == Method::HEAD { Body::empty() } else { body });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, APPLICATION_JSON);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    response
}
