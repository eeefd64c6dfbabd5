//! The section `[shared]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::value::{BaseUrl, ByteSize, Period, Secret};

/// The `[shared]` section: the bucket that several mirrors share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address of the S3 service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<BaseUrl>,
    /// The name of the bucket.
    pub bucket: String,
    /// The region, as requests are signed for it.
    pub region: String,
    /// True when the bucket's name is in the path of addresses; false when it is in the host.
    pub path_style: bool,
    /// The beginning of the names of all objects; empty, or with a slash at its end.
    pub prefix: String,
    /// The ID of the access key. Not a secret.
    pub access_key: String,
    /// The environment variable that holds the secret key.
    pub secret_key_env: String,
    /// A file that holds the secret key; wins over `secret_key_env`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_file: Option<PathBuf>,
    /// A file with the secret that seals tokens and signing keys in the bucket; the same on every mirror. Needed with
    /// `access.enabled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// The certificate authorities of the service, PEM, beside those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Who decides which content a version has.
    pub arbiter: Arbiter,
    /// When a new zip must be in the bucket.
    pub durable: Durability,
    /// Most bytes on disk that wait for their upload.
    pub upload_queue: ByteSize,
    /// Concurrent uploads of zips.
    pub uploads: usize,
    /// Time limit of a connection.
    pub connect_timeout: Period,
    /// Time limit of a response's head, and of a small object as a whole.
    pub response_timeout: Period,
    /// Longest pause in a body.
    pub idle_timeout: Period,
    /// Longest time until this mirror knows a change that another mirror has made.
    pub max_age: Period,
    /// The secret key, from `secret_key_file` or `secret_key_env`.
    #[serde(skip)]
    pub secret_key: Option<Secret>,
    /// The content of `secret_file`.
    #[serde(skip)]
    pub sealing_secret: Option<Secret>,
}

/// Who decides which content a version has, when several mirrors see it first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arbiter {
    /// The bucket, which creates an object only once.
    #[default]
    Bucket,
    /// The mirror that writes first, for services that create an object twice: two mirrors that write a pin within
    /// the same moment may both believe that theirs counts.
    Owner,
}

/// When a new zip must be in the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// As soon as possible; the node that fetched it may be lost before.
    #[default]
    Queued,
    /// Before any client has its last bytes.
    BeforeLastBytes,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            bucket: String::new(),
            region: "us-east-1".into(),
            path_style: true,
            prefix: String::new(),
            access_key: String::new(),
            secret_key_env: "AWS_SECRET_ACCESS_KEY".into(),
            secret_key_file: None,
            secret_file: None,
            ca_file: None,
            arbiter: Arbiter::Bucket,
            durable: Durability::Queued,
            upload_queue: ByteSize::gib(4),
            uploads: 4,
            connect_timeout: Period::secs(2),
            response_timeout: Period::secs(5),
            idle_timeout: Period::secs(10),
            max_age: Period::secs(5),
            secret_key: None,
            sealing_secret: None,
        }
    }
}
