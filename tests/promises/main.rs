//! What the mirror promises, one file per promise, over the scripted forge.

#[path = "../support/forge.rs"]
mod forge;
#[path = "../support/mirror.rs"]
mod mirror;
#[path = "../support/zips.rs"]
mod zips;

mod leaving;
mod lying_upstreams;
mod no_room;
mod pinned;
mod ranges;
mod resume;
mod serves;
mod streaming;
mod zip_headers;
