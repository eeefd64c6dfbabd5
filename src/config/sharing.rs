//! `[shared]`: its defaults, its checks and its secret key.

use std::{fs, path::Path, time::Duration};

use toml::Table;

use super::{
    Config,
    environment::Environment,
    error::{ConfigError, ErrorReason},
    layers::{self, invalid},
    require::{self, require_nonzero},
    setting::{SettingSource, Settings},
};
use crate::{
    shared::{self, MIN_SEALING_SECRET_BYTES},
    value::{ByteSize, Secret},
};

/// The name of the section.
pub(super) const SHARED: &str = "shared";

/// Most concurrent uploads.
const MAX_CONCURRENT_UPLOADS: usize = 32;
/// Least and most age of what is known of other mirrors' changes: a new signing key signs after twice the longest.
const MIN_CHANGE_AGE: Duration = Duration::from_millis(100);
const MAX_CHANGE_AGE: Duration = Duration::from_secs(5);
/// Longest file that may hold a secret key, bytes.
const MAX_SECRET_BYTES: u64 = 4 << 10;

/// The defaults of the section.
pub(super) fn defaults() -> Settings {
    // Serialising the defaults cannot fail; a test holds that.
    let section = Table::try_from(shared::Config::default()).unwrap_or_default();
    let tree = Table::from_iter([(SHARED.to_owned(), section.into())]);
    layers::of_tree(tree, &SettingSource::Default)
}

/// Checks the section.
///
/// # Errors
/// The first value that cannot be used.
pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let Some(section) = &config.shared else { return Ok(()) };
    let require = |valid, key, reason: &str| require::require(valid, settings, &[SHARED, key], reason);
    let require_like =
        |valid, key, reason: &str| require::require(valid, settings, &[SHARED, key], ErrorReason::with_example(reason));
    let example = "is missing; write the address of the S3 service, for example \"https://s3.example.com\"";
    require_like(section.endpoint.is_some(), "endpoint", example)?;
    let example = "is missing; write the bucket's name, for example \"srm-mirror\"";
    require_like(!section.bucket.is_empty(), "bucket", example)?;
    let missing = "is missing; write the ID of the access key; the secret key is read from secret_key_env";
    require(!section.access_key.is_empty(), "access_key", missing)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let prefix = &section.prefix;
    let segments_are_names = !prefix.starts_with('/') && !prefix.contains("//") && !prefix.contains("./");
    let is_folder = prefix.ends_with('/') && prefix.bytes().all(plain) && segments_are_names && prefix.len() <= 100;
    let example = "must be empty, or letters, digits and -_. with a slash at its end, for example \"mirror/\"";
    require_like(prefix.is_empty() || is_folder, "prefix", example)?;
    let uploads = format!("must be between 1 and {MAX_CONCURRENT_UPLOADS}");
    require((1..=MAX_CONCURRENT_UPLOADS).contains(&section.uploads), "uploads", &uploads)?;
    let most = ByteSize(config.disk.limit.0 / 2);
    let queue =
        format!("must be between 1 MiB and half of disk.limit, {most}: what waits for its upload is not evicted");
    require((ByteSize::mib(1)..=most).contains(&section.upload_queue), "upload_queue", &queue)?;
    for (key, period) in [
        ("connect_timeout", section.connect_timeout),
        ("response_timeout", section.response_timeout),
        ("idle_timeout", section.idle_timeout),
    ] {
        require_nonzero(period, settings, &[SHARED, key])?;
    }
    let ages = MIN_CHANGE_AGE..=MAX_CHANGE_AGE;
    require(ages.contains(&section.max_age.0), "max_age", "must be between 100 ms and 5 s")?;
    let sealing = "is missing: with access.enabled = true, tokens and signing keys are in the bucket, sealed with a secret; \
                   write one with openssl rand -hex 32, and name its file here on every mirror";
    require(section.secret_file.is_some() || !config.access.enabled, "secret_file", sealing)
}

/// Lowers the default of the queue where half of the disk is less.
pub(super) fn derive(config: &mut Config, settings: &mut Settings) {
    let most = config.disk.limit.0 / 2;
    if let Some(section) = &mut config.shared {
        super::lower_default(settings, [SHARED, "upload_queue"], &mut section.upload_queue, most, "disk.limit");
    }
}

/// Reads the secret key, and the secret that seals.
///
/// # Errors
/// When there is none, or its file cannot be read.
pub(super) fn resolve(config: &mut Config, environment: &Environment, settings: &Settings) -> Result<(), ConfigError> {
    let Some(section) = &mut config.shared else { return Ok(()) };
    let secret = match &section.secret_key_file {
        Some(path) => read_secret(path, "secret_key_file", settings)?,
        None => Secret::new(environment.get(&section.secret_key_env).unwrap_or_default()),
    };
    if secret.reveal().is_empty() {
        let reason = "there is no secret key: set this variable, or name a file in shared.secret_key_file";
        return Err(invalid(settings, &[SHARED, "secret_key_env"], reason));
    }
    section.secret_key = Some(secret);
    if let Some(path) = &section.secret_file {
        let secret = read_secret(path, "secret_file", settings)?;
        if secret.reveal().len() < MIN_SEALING_SECRET_BYTES {
            let reason = format!(
                "the secret in this file has less than {MIN_SEALING_SECRET_BYTES} bytes; write one with openssl rand -hex 32"
            );
            return Err(invalid(settings, &[SHARED, "secret_file"], &reason));
        }
        section.sealing_secret = Some(secret);
    }
    Ok(())
}

fn read_secret(path: &Path, key: &str, settings: &Settings) -> Result<Secret, ConfigError> {
    let is_short = fs::metadata(path).is_ok_and(|file| file.len() <= MAX_SECRET_BYTES);
    let text = fs::read_to_string(path).ok().filter(|_| is_short);
    let wrong = || invalid(settings, &[SHARED, key], "this file cannot be read, or holds no secret");
    Ok(Secret::new(&text.ok_or_else(wrong)?))
}
