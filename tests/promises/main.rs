//! What the mirror promises, one file per promise, over the scripted forge.

#[path = "../support/forge.rs"]
mod forge;
#[path = "../support/mirror.rs"]
mod mirror;

mod connect;
mod serves;
mod tls;
