//! HTTP decisions as pure functions: conditional requests, ranges, `Cache-Status` and single fields.
//!
//! Nothing here knows a package, a cache or a connection, and nothing does I/O: header fields go in,
//! a decision or a field value comes out. [RFC 9110], [RFC 9111], [RFC 9211] and [RFC 9530] are cited at each rule.
//!
//! [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110
//! [RFC 9111]: https://www.rfc-editor.org/rfc/rfc9111
//! [RFC 9211]: https://www.rfc-editor.org/rfc/rfc9211
//! [RFC 9530]: https://www.rfc-editor.org/rfc/rfc9530

pub mod body;
pub mod cache_status;
pub mod conditional;
pub mod field;
pub mod range;
