//! The signature of a request for private packages, and how a registry checks it.

use std::collections::HashSet;

use http::HeaderMap;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::super::pack::hex;

/// Most seconds between a signature's time and the registry's.
const WINDOW: i64 = 900;

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Without a signature.
    Anonymous,
    /// With a valid signature.
    Known,
    /// With a signature by an unknown code, of another time, or that was used before.
    Wrong,
}

/// The headers that sign a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub token: String,
    pub sign_code: String,
    pub nonce: String,
    /// Seconds since 1970.
    pub timestamp: String,
}

impl Signature {
    /// `token` is md5hex(code), `sign_code` is sha256hex(code + nonce + timestamp).
    pub fn of(code: &str, nonce: &str, timestamp: i64) -> Self {
        let sign_code = hex(&Sha256::digest(format!("{code}{nonce}{timestamp}")));
        let token = hex(&Md5::digest(code));
        Self { token, sign_code, nonce: nonce.to_owned(), timestamp: timestamp.to_string() }
    }

    /// The names and values of the headers.
    pub fn headers(&self) -> [(&'static str, &str); 4] {
        [("token", &self.token), ("sign_code", &self.sign_code), ("nonce", &self.nonce), ("timestamp", &self.timestamp)]
    }

    fn from(headers: &HeaderMap) -> Option<Self> {
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let read = Self {
            token: value("token"),
            sign_code: value("sign_code"),
            nonce: value("nonce"),
            timestamp: value("timestamp"),
        };
        let any = Self::HEADERS.iter().any(|name| headers.contains_key(*name));
        any.then_some(read)
    }

    pub const HEADERS: [&'static str; 4] = ["token", "sign_code", "nonce", "timestamp"];
}

/// The codes that a registry knows, and the nonces that it has seen with them.
#[derive(Debug, Default)]
pub struct Codes {
    pub known: HashSet<String>,
    nonces: HashSet<String>,
}

impl Codes {
    /// Checks a request's signature. A valid one makes its nonce used.
    pub fn caller(&mut self, headers: &HeaderMap, now: i64) -> Caller {
        let Some(signature) = Signature::from(headers) else { return Caller::Anonymous };
        let Ok(time) = signature.timestamp.parse() else { return Caller::Wrong };
        let nonce = &signature.nonce;
        let well_formed = nonce.len() == 15 && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let signed = self.known.iter().any(|code| Signature::of(code, nonce, time) == signature);
        let in_time = (now - WINDOW..=now + WINDOW).contains(&time);
        if well_formed && signed && in_time && self.nonces.insert(nonce.clone()) {
            Caller::Known
        } else {
            Caller::Wrong
        }
    }
}
