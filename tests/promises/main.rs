//! The mirror's promises, one file each, over the scripted forge.
#![allow(unreachable_pub, reason = "support modules are mounted by several crates")]

#[path = "../support/answer_text.rs"]
mod answer_text;
#[path = "../support/bucket.rs"]
mod bucket;
#[path = "../support/captured.rs"]
mod captured;
#[path = "../support/closed_port.rs"]
mod closed_port;
#[path = "../support/eventually.rs"]
mod eventually;
#[path = "../support/fleet.rs"]
mod fleets;
#[path = "../support/forge.rs"]
mod forge;
#[path = "../support/issuer.rs"]
mod issuer;
#[path = "../support/logs.rs"]
mod logs;
#[path = "../support/mirror.rs"]
mod mirror;
#[path = "../support/plain_client.rs"]
mod plain_client;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/scripted_host.rs"]
mod scripted_host;
#[path = "../support/seed.rs"]
mod seed;
#[path = "../support/zips.rs"]
mod zips;

mod access;
mod audit;
mod bad_day;
mod broken_uploads;
mod bucket_bundles;
mod bucket_garbage;
mod bucket_lists;
mod bucket_trouble;
mod budget;
mod bundle_room;
mod bundle_trust;
mod bundles;
mod cache_ops;
mod catalogue;
mod chain;
mod cli;
mod client_limits;
mod connect;
mod control;
mod credentials;
mod damage;
mod discretion;
mod drain;
mod failing_warm;
mod fairness;
mod fault_matrix;
mod flat;
mod fleet;
mod fleet_commands;
mod fleet_kills;
mod folder_details;
mod folder_rules;
mod folders;
mod forgotten_uploads;
mod format_upgrade;
mod freshness;
mod gitee;
mod github;
mod golden;
mod hits;
mod holding;
mod host;
mod host_beside;
mod hosted;
mod hosted_cli;
mod hosts;
mod http_rules;
mod json_answers;
mod kill;
mod leaving;
mod limits;
mod listeners;
mod log;
mod lying_upstreams;
mod memory_limit;
mod metrics;
mod mounted;
mod moving_versions;
mod mutual_tls;
mod no_room;
mod official;
mod offline;
mod oidc;
mod openapi;
mod package_model;
mod package_pages;
mod pinned;
mod plain_names;
mod policy;
mod private;
mod publish;
mod quota;
mod ranges;
mod rate_limits;
mod reload;
mod remote_admin;
mod removals;
mod renamed_rules;
mod renames_and_gone;
mod repeated;
mod resolve;
mod restart;
mod resume;
mod routes_cli;
mod scale;
mod sendfile;
mod serves;
mod shared_accounts;
mod shared_bucket;
mod shared_hosting;
mod shared_push;
mod shared_sources;
mod sharing;
mod simple;
mod slips;
mod sources;
mod spelling;
mod states;
mod status;
mod streaming;
mod structured_fields;
mod terminal;
mod tls;
mod unbuilt;
mod unreadable_lists;
mod v3;
mod verify;
mod version_rules;
mod warm;
mod warm_again;
mod warm_locked;
mod warm_names;
mod warm_projects;
mod warm_room;
mod warm_server;
mod ways_out;
mod web;
mod zip_forms;
mod zip_headers;
