//! What the mirror promises, one file per promise, over the scripted forge.

#[path = "../support/forge.rs"]
mod forge;
#[path = "../support/golden.rs"]
mod golden;
#[path = "../support/mirror.rs"]
mod mirror;
#[path = "../support/zips.rs"]
mod zips;

mod flat;
mod hosts;
mod leaving;
mod lying_upstreams;
mod no_room;
mod pinned;
mod ranges;
mod resume;
mod serves;
mod simple;
mod streaming;
mod v3;
mod zip_headers;
