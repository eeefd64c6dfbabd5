//! STUB: one request.

pub mod render;
