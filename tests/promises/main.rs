//! What the mirror promises, one file per promise, over the scripted forge.

#[path = "../support/forge.rs"]
mod forge;
#[path = "../support/mirror.rs"]
mod mirror;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/seed.rs"]
mod seed;

mod budget;
mod cli;
mod damage;
mod drain;
mod forwards_nothing;
mod kill;
mod limits;
mod log;
mod mounted;
mod restart;
mod scale;
mod serves;
