//! HTTP semantics as pure functions: conditional requests, ranges, `Cache-Status` and single header fields.
//!
//! A function here takes header fields and returns a decision or a field value; it does no I/O and depends on no package,
//! cache or connection. Each rule cites [RFC 9110], [RFC 9111], [RFC 9211] or [RFC 9530].
//!
//! [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110
//! [RFC 9111]: https://www.rfc-editor.org/rfc/rfc9111
//! [RFC 9211]: https://www.rfc-editor.org/rfc/rfc9211
//! [RFC 9530]: https://www.rfc-editor.org/rfc/rfc9530

pub(crate) mod accept_encoding;
pub(crate) mod body;
pub(crate) mod cache_status;
pub mod conditional;
pub(crate) mod field;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub mod range;
mod send_memory;
pub(crate) mod template;
