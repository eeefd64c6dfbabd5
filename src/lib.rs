//! A caching reverse proxy that knows packages: it maps the routes of the Serverless Registry Model onto the release
//! APIs of GitHub and Gitee, normalises what they say, and keeps their zips.
//!
//! # Modules
//!
//! | module | what it is |
//! | --- | --- |
//! | [`cli`] | the commands and the exit codes |
//! | [`app`] | from a configuration to a running mirror, and to its end |
//! | [`config`] | flags over variables over a file over defaults; reads the environment, alone |
//! | [`server`] | listeners, connections, limits, drain |
//! | [`service`] | one request: parse, ask the mirror, answer, one log event |
//! | [`dialect`] | how clients ask and how answers are wrapped |
//! | [`registry`] | the use cases: a package's releases, a version's zip, its metadata record |
//! | [`cache`] | look up, join or start a fill, answer or serve stale; what is fresh, and what is pinned |
//! | [`storage`] | where complete zips are: memory over disk |
//! | [`upstream`] | the forges: their APIs, limits and ways |
//! | [`origin`] | the contract between the cache and what it caches |
//! | [`archive`] | what a zip says of itself |
//! | [`sendfile`] | parts of files sent without being read: the only `unsafe` |
//! | [`package`], [`entry`], [`http`], [`value`], [`clock`], [`peer`], [`observe`] | the words that all of them share |
//!
//! They import each other in one direction: `app` hands the `service` to the `server`; the service knows `dialect` and `registry`, the
//! mirror knows `cache` and `upstream`, the cache knows `storage`. ARCHITECTURE.md has the whole rule, and a test holds it.
//!
//! # One request
//!
//! `GET /devsapp/fc3/zipball/1.0.0` is accepted by [`server`] and handed to [`service::Service::handle`]. [`dialect::parse`]
//! makes an [`dialect::ApiRequest::Archive`] of the path. [`registry::Registry::archive`] asks whether the package may be served and
//! which tag the version is, by what is pinned, then by the release list. [`cache::ArchiveCache::get`] looks into the tiers:
//!
//! - What is there is a hit. Nobody else is asked.
//! - Else the first caller starts a fill, and whoever comes meanwhile joins it. The fill downloads into a spool and verifies
//!   beside it; every client reads the spool as it grows, but its last bytes only after the verdict.
//! - A good zip is pinned, then shown as complete, then stored. A bad one breaks its clients' connections and leaves nothing.
//!
//! The answer carries a [`http::cache_status::CacheStatus`] that says which of these it was; so does the request's log event.
pub mod admin_api;
pub mod app;
pub mod archive;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod entry;
pub mod http;
pub mod observe;
pub mod origin;
pub mod package;
pub mod peer;
pub mod registry;
pub mod sendfile;
pub mod server;
pub mod service;
pub mod storage;
pub mod upstream;
pub mod value;
