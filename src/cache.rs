//! STUB: look up, decide, join or start a fill, answer or stale.
pub mod policy;
