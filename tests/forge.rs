//! Mounts the scripted forge by itself, so that it keeps its own promises: `cargo test --test forge`.
#[path = "support/forge.rs"]
mod forge;
