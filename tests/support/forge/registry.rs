//! Two scripted registries of packages with plain names, v3 and simple, and the object storage that holds their zips.
//!
//! ```ignore
//! let fc3 = forge.registry().component("fc3").version("0.1.21").version("0.1.22").version("dev");
//! fc3.republish("dev", |spec| spec.file("new.txt", "new")).about(|about| about.readme = "# fc3".into());
//! forge.simple_registry().component("core").version("0.1.66");
//! forge.registry().options(|options| options.links = Links::Uses(1));
//! forge.fault(Match::route(Route::V3Latest), Fault::v3_error(500, "系统错误")).times(2);
//! assert_eq!(forge.counts(), [(Route::V3Latest, 1)].into());
//! ```
//!
//! Versions have the files that their kind needs; [`PackageHandle::version_with`] changes them. v3 zips are flat, simple
//! zips have one top folder. The registries know their own packages only.

#[path = "registry/caller.rs"]
mod caller;
#[path = "registry/handle.rs"]
mod handle;
#[path = "registry/links.rs"]
mod links;
#[path = "registry/model.rs"]
mod model;
#[path = "registry/object.rs"]
mod object;
#[path = "registry/options.rs"]
mod options;
#[path = "registry/simple.rs"]
pub mod simple;
#[path = "registry/storage.rs"]
pub mod storage;
#[path = "registry/v3.rs"]
pub mod v3;
#[path = "registry/v3_json.rs"]
mod v3_json;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::{
    caller::Signature,
    handle::PackageHandle,
    model::{Description, PackageKind},
    options::{
        AfterLast, BadSignature, Fields, Links, Missing, PrivateZips, RegistryOptions, RegistryZips, Times, TypeNames,
        Validators,
    },
};
use self::{
    caller::{Caller, Codes},
    links::Granted,
    model::{Package, Packages, Version},
};
use super::{Forge, body::Answer, pack::hex, paths::encode};

/// The text with which the official registry answers for a missing package or version.
pub const MISSING: &str = "未找到指定资源";

/// The protocol of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V3,
    Simple,
}

/// A running registry; clones are the same one. The next request sees every change.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    protocol: Protocol,
    /// Its own address, with the path that every request begins with.
    base: String,
    storage: SocketAddr,
    packages: Mutex<Packages>,
    options: Mutex<RegistryOptions>,
    codes: Mutex<Codes>,
    granted: Mutex<Granted>,
    /// Seconds by which its clock is ahead.
    ahead: AtomicI64,
    answers: AtomicU64,
}

impl Registry {
    pub(super) fn new(protocol: Protocol, address: SocketAddr, storage: SocketAddr) -> Self {
        let path = match protocol {
            Protocol::V3 => "v3",
            Protocol::Simple => "simple",
        };
        Self(Arc::new(Shared {
            protocol,
            base: format!("http://{address}/{path}"),
            storage,
            packages: Mutex::default(),
            options: Mutex::default(),
            codes: Mutex::default(),
            granted: Mutex::default(),
            ahead: AtomicI64::new(0),
            answers: AtomicU64::new(0),
        }))
    }

    /// `http://127.0.0.1:PORT/v3` or `…/simple`.
    pub fn base(&self) -> &str {
        &self.0.base
    }

    /// A component; created if missing, without versions.
    pub fn component(&self, name: &str) -> PackageHandle {
        PackageHandle::open(self, name, PackageKind::Component)
    }

    pub fn plugin(&self, name: &str) -> PackageHandle {
        PackageHandle::open(self, name, PackageKind::Plugin)
    }

    pub fn application(&self, name: &str) -> PackageHandle {
        PackageHandle::open(self, name, PackageKind::Application)
    }

    /// Changes how the registry answers.
    pub fn options(&self, change: impl FnOnce(&mut RegistryOptions)) {
        change(&mut self.0.options.lock().unwrap());
    }

    /// Makes the registry know a code: requests that it signs see private packages.
    pub fn accept_code(&self, code: &str) {
        self.0.codes.lock().unwrap().known.insert(code.to_owned());
    }

    pub fn revoke_code(&self, code: &str) {
        self.0.codes.lock().unwrap().known.remove(code);
    }

    /// Sets the registry's clock ahead: signed addresses grow older by so many seconds, and so do signatures, which are
    /// valid for 900 seconds.
    pub fn advance(&self, seconds: i64) {
        self.0.ahead.fetch_add(seconds, Ordering::AcqRel);
    }

    /// Number of signed addresses handed out.
    pub fn links_granted(&self) -> u64 {
        self.0.granted.lock().unwrap().count()
    }

    /// Zips have one top folder if the test says nothing else.
    fn has_top_folders(&self) -> bool {
        self.0.protocol == Protocol::Simple
    }

    /// The first part of an object's path.
    fn bucket(&self) -> &'static str {
        match self.0.protocol {
            Protocol::V3 => "packages-v3",
            Protocol::Simple => "packages-simple",
        }
    }

    fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        now + self.0.ahead.load(Ordering::Acquire)
    }

    fn choices(&self) -> RegistryOptions {
        self.0.options.lock().unwrap().clone()
    }

    /// The sender of a request, or the status with which it is refused.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, u16> {
        let caller = self.0.codes.lock().unwrap().caller(headers, self.now());
        match (caller, self.choices().bad_signature) {
            (Caller::Wrong, BadSignature::Refused(status)) => Err(status),
            _ => Ok(caller),
        }
    }

    /// A package that this caller may see.
    fn find<'a>(&self, packages: &'a Packages, name: &str, caller: Caller) -> Option<&'a Package> {
        packages.published(name).filter(|package| !package.private || caller == Caller::Known)
    }

    /// A package whose zips this caller may have.
    fn find_for_zip<'a>(&self, packages: &'a Packages, name: &str, caller: Caller) -> Option<&'a Package> {
        match self.choices().private_zips {
            PrivateZips::Signed => self.find(packages, name, caller),
            PrivateZips::Open => packages.published(name),
        }
    }

    fn request_id(&self) -> String {
        format!("scripted-{:06}", self.0.answers.fetch_add(1, Ordering::AcqRel))
    }

    /// The zip of a version: itself, or a redirect to a signed address.
    fn zip(&self, headers: &HeaderMap, package: &Package, version: &Version) -> Answer {
        let options = self.choices();
        if options.zips == RegistryZips::Direct {
            return object::answer(headers, &options, package, version);
        }
        let path = format!("/{}/{}/{}.zip", self.bucket(), encode(&package.name), encode(&version.tag));
        let query = self.0.granted.lock().unwrap().grant(&path, options.links, self.now());
        let host = options.redirect_to.unwrap_or_else(|| self.0.storage.to_string());
        Answer::new(302, "text/html; charset=utf-8", "").header("location", &format!("http://{host}{path}?{query}"))
    }

    /// The JSON `whole`, with a validator that follows `value` where the options say so.
    fn json(&self, headers: &HeaderMap, value: &Value, whole: &Value) -> Answer {
        let answer = Answer::json(200, whole);
        if !self.choices().json_etags {
            return answer;
        }
        let tag = format!("W/\"{}\"", &hex(&Sha256::digest(Bytes::from(value.to_string())))[..32]);
        let answer = answer.header("etag", &tag);
        if object::names(headers, "if-none-match", &tag) {
            return Answer { status: 304, ..answer }.without_body();
        }
        answer
    }
}

impl Forge {
    /// The v3 registry.
    pub fn registry(&self) -> Registry {
        self.state.official.clone()
    }

    /// The simple registry.
    pub fn simple_registry(&self) -> Registry {
        self.state.simple.clone()
    }

    /// `http://127.0.0.1:PORT/v3`.
    pub fn v3_api(&self) -> String {
        self.state.official.base().to_owned()
    }

    /// `http://127.0.0.1:PORT/simple`.
    pub fn simple_api(&self) -> String {
        self.state.simple.base().to_owned()
    }

    /// `127.0.0.1:PORT` of the object storage, as written in `redirect_hosts`.
    pub fn storage_host(&self) -> String {
        self.state.ports[5].to_string()
    }
}
