//! Signed addresses of the object storage, valid for a time and a number of requests.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{super::paths::Path, options::Links};

const KEY_ID: &str = "LTAI5tScriptedRegistry";
/// Seconds that an address with a limited number of uses is valid.
const LONGEST: i64 = 600;
/// Addresses that are kept although they have expired.
const KEPT: usize = 10_000;

#[derive(Debug)]
struct Grant {
    path: String,
    expires: i64,
    uses: Option<u64>,
}

/// The addresses that one registry has handed out, by signature.
#[derive(Debug, Default)]
pub struct Granted {
    grants: HashMap<String, Grant>,
    count: u64,
}

/// The verdict on a signed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    /// The time is over, or all uses are.
    Expired {
        at: i64,
    },
    /// There is no signature.
    Unsigned,
    /// The signature belongs to another object, method or time.
    Mismatch,
}

impl Granted {
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The query of a new address for `path`, which is percent-encoded.
    pub fn grant(&mut self, path: &str, links: Links, now: i64) -> String {
        if self.grants.len() >= KEPT {
            self.grants.retain(|_, grant| grant.expires > now);
        }
        self.count += 1;
        let (expires, uses) = match links {
            Links::Seconds(seconds) => (now + seconds, None),
            Links::Uses(uses) => (now + LONGEST, Some(uses)),
        };
        let signature = base64(&Sha256::digest(format!("{path} {expires} {}", self.count))[..20]);
        let encoded: String = url::form_urlencoded::byte_serialize(signature.as_bytes()).collect();
        self.grants.insert(signature, Grant { path: path.to_owned(), expires, uses });
        format!("Expires={expires}&OSSAccessKeyId={KEY_ID}&Signature={encoded}")
    }

    /// Checks a request for `path`, which is percent-encoded, and uses its address once.
    pub fn check(&mut self, method: &str, path: &str, query: &Path, now: i64) -> Verdict {
        let Some(signature) = query.query("Signature") else { return Verdict::Unsigned };
        let Some(grant) = self.grants.get_mut(signature) else { return Verdict::Mismatch };
        let expires = query.query("Expires").and_then(|value| value.parse::<i64>().ok());
        // The method is part of what is signed: the address of a GET is no address of a HEAD.
        if method != "GET" || grant.path != path || expires != Some(grant.expires) {
            return Verdict::Mismatch;
        }
        if query.query("OSSAccessKeyId") != Some(KEY_ID) {
            return Verdict::Mismatch;
        }
        if now >= grant.expires || grant.uses == Some(0) {
            return Verdict::Expired { at: grant.expires };
        }
        grant.uses = grant.uses.map(|uses| uses - 1);
        Verdict::Valid
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..4)
            .map(|n| if n > chunk.len() { '=' } else { DIGITS[(bits >> (18 - 6 * n)) as usize & 63] as char })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
