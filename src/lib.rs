//! STUB crate docs
pub mod app;
pub mod archive;
pub mod cache;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod entry;
pub mod http;
pub mod mirror;
pub mod observe;
pub mod origin;
pub mod package;
pub mod server;
pub mod service;
pub mod tier;
pub mod upstream;
pub mod value;
