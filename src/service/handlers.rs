//! One file per kind of answer: each asks the registry and makes the response.

pub(super) mod admin;
pub(super) mod archive;
mod built;
pub(super) mod catalog;
pub(super) mod folder;
pub(super) mod health;
pub(super) mod json;
pub(super) mod metrics;
mod node;
pub(super) mod openapi;
pub(super) mod publish;
pub(super) mod view;
pub(super) mod zip;
