//! What the mirror promises, one file per promise, over the scripted forge.

#[path = "../support/eventually.rs"]
mod eventually;
#[path = "../support/forge.rs"]
mod forge;
#[path = "../support/logs.rs"]
mod logs;
#[path = "../support/mirror.rs"]
mod mirror;

mod discretion;
mod freshness;
mod gitee;
mod github;
mod golden;
mod json_answers;
mod policy;
mod private;
mod rate_limits;
mod renames_and_gone;
mod resolve;
mod serves;
mod ways_out;
