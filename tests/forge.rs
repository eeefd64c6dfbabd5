//! Tests of the scripted forge itself: `cargo test --test forge`.
#![allow(clippy::unwrap_used)]

#[path = "support/forge.rs"]
mod forge;
#[path = "support/forge/registry_tests.rs"]
mod registry_tests;
#[path = "support/forge/storage_tests.rs"]
mod storage_tests;
#[path = "support/forge/tests.rs"]
mod tests;
