//! Tests of the scripted forge itself: `cargo test --test forge`.
#![allow(clippy::unwrap_used)]

#[path = "support/forge.rs"]
mod forge;
#[path = "support/forge/tests.rs"]
mod tests;
