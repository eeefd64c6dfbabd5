//! STUB: one request.
