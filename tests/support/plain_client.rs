//! Clients of mirrors and scripted hosts without TLS: they read no certificate authorities, which takes longer than most tests.
#![allow(dead_code, unreachable_pub)]

use reqwest::{Certificate, ClientBuilder};

/// For a client that trusts no authority and uses no proxy.
pub fn builder() -> ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only(std::iter::empty::<Certificate>())
}
