//! A caching reverse proxy for packages: maps the routes of the Serverless Registry Model onto the release APIs of
//! GitHub and Gitee, normalises their responses, and stores their zips.
//!
//! # Modules
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cli`] | the commands and their exit codes |
//! | [`app`] | the composition root: builds a mirror from a configuration, runs it, drains it |
//! | [`config`] | flags over environment variables over a file over defaults; alone reads the environment |
//! | [`server`] | listeners, connections, limits, drain |
//! | [`service`] | one request: parse, look up, respond, one access event |
//! | [`access`] | who asks, and what they may do: tokens, signed addresses, rules |
//! | [`dialect`] | path grammars and JSON envelopes |
//! | [`registry`] | the use cases: a package's releases, a version's zip, its metadata record, the catalog |
//! | [`cache`] | looks up, joins or starts a fill, serves stale documents; freshness and pins |
//! | [`storage`] | complete zips and documents, in memory and on disk |
//! | [`hosted`] | packages that are published here: their zips and records |
//! | [`upstream`] | clients of the forges' APIs, with their rate limits and redirects |
//! | [`origin`] | the contract between the cache and the source of what it caches |
//! | [`archive`] | verifies zips and plans views of them |
//! | [`sendfile`] | slices of files as body frames that the kernel sends; the only `unsafe` |
//! | [`admin_api`] | requests, responses, events and errors of the administration API |
//! | [`atomic_file`] | files that get their name when they are complete |
//! | [`tar_file`] | tar archives of plain files |
//! | [`package`], [`entry`], [`http`], [`value`], [`clock`], [`peer`], [`observe`] | types that all modules share |
//!
//! Modules import each other in one direction: `service` uses `access`, `dialect` and `registry`, `registry` uses `cache` and
//! `upstream`, `cache` uses `storage`; `app` gives the `service` to the `server`. ARCHITECTURE.md has the whole rule, and
//! a test holds it.
//!
//! # One request
//!
//! `GET /devsapp/fc3/zipball/1.0.0` is accepted by [`server`] and handed to [`service::Service::handle`].
//! [`dialect::parse`] makes a [`dialect::ApiRequest::Archive`] of the path. The [`registry`] checks that the package may
//! be served and resolves the version to a tag, by pins first and by the release list second. The [`cache`] looks the
//! tag's zip up:
//!
//! - A stored zip is a hit: no upstream request is sent.
//! - Otherwise the first request starts a fill, and later ones join it. The fill downloads into a spool and verifies the
//!   zip beside the download. Every client reads the growing spool, except its last bytes, which are withheld until the
//!   zip is verified.
//! - A verified zip is pinned, then visible as complete, then stored. An invalid zip breaks its clients' connections and
//!   is removed.
//!
//! The response and the access event carry a [`http::cache_status::CacheStatus`], which says which of these happened.

pub mod access;
pub(crate) mod admin_api;
pub mod app;
pub mod archive;
pub(crate) mod atomic_file;
pub(crate) mod blocking;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod entry;
pub mod fleet;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod hosted;
pub mod http;
pub mod observe;
pub mod origin;
pub mod package;
pub mod peer;
pub mod registry;
pub(crate) mod sendfile;
pub mod server;
pub mod service;
pub mod shared;
pub mod storage;
pub(crate) mod tar_file;
pub mod upstream;
pub mod value;
