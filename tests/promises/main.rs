//! What the mirror promises, one file per promise, over the scripted forge.

#![allow(unreachable_pub, reason = "support modules are mounted by several crates")]

#[path = "../support/eventually.rs"]
mod eventually;
#[path = "../support/forge.rs"]
mod forge;
#[path = "../support/logs.rs"]
mod logs;
#[path = "../support/mirror.rs"]
mod mirror;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/seed.rs"]
mod seed;

mod budget;
mod cli;
mod connect;
mod damage;
mod discretion;
mod drain;
mod forwards_nothing;
mod freshness;
mod gitee;
mod github;
mod golden;
mod json_answers;
mod kill;
mod limits;
mod log;
mod mounted;
mod policy;
mod private;
mod rate_limits;
mod renames_and_gone;
mod resolve;
mod restart;
mod scale;
mod serves;
mod tls;
