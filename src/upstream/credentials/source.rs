//! Where a credential's secret comes from: a variable, or a file that is read again when it changes.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use jsonwebtoken::EncodingKey;
use serde::{Deserialize, Serialize};

use super::app_jwt;
use crate::value::{Secret, io_reason::io_reason};

/// Longest token that is accepted, in bytes; a larger file was named by mistake.
const MAX_TOKEN_BYTES: usize = 4096;
/// Largest file of a private key, in bytes.
const MAX_KEY_BYTES: usize = 64 << 10;

/// One entry of `upstreams.NAME.credentials`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum CredentialConfig {
    /// A token or safety code in an environment variable.
    Variable {
        /// The variable's name.
        token_env: String,
    },
    /// A token or safety code in a file.
    File {
        /// The file.
        token_file: PathBuf,
    },
    /// A GitHub App.
    App {
        /// Its App ID or client ID.
        app_id: String,
        /// The PEM file of its private key.
        key_file: PathBuf,
    },
}

impl CredentialConfig {
    /// The file with the secret; `None` for a variable.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Variable { .. } => None,
            Self::File { token_file } => Some(token_file),
            Self::App { key_file, .. } => Some(key_file),
        }
    }
}

/// A credential with its secret. Debug output has no secret.
#[derive(Clone, Debug)]
pub struct CredentialSource {
    /// Names it in logs and reports: the variable, the file's name, or the App.
    pub(super) label: String,
    pub(super) secret: CredentialSecret,
    /// The file that holds the secret.
    file: Option<PathBuf>,
}

/// The secret of a credential.
#[derive(Clone)]
pub(super) enum CredentialSecret {
    /// A token or a safety code.
    Token(Secret),
    App {
        app_id: String,
        key: Box<EncodingKey>,
        text: Secret,
    },
}

/// Why a credential cannot be used. No message contains the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialSourceError {
    /// The file cannot be read.
    #[error("this file cannot be read: {0}")]
    UnreadableFile(String),
    /// The file is empty, or the text of a token.
    #[error("this file is empty")]
    EmptyFile,
    /// The content is no token.
    #[error("the content is not a token: a token is one line of printable characters without spaces")]
    NotToken,
    /// The content is no key that signs for a GitHub App.
    #[error("the content is not an RSA private key in PEM form, as GitHub generates it for an App")]
    NotKey,
}

impl fmt::Debug for CredentialSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for CredentialSecret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other)) => one == other,
            (Self::App { app_id, text, .. }, Self::App { app_id: other_id, text: other_text, .. }) => {
                app_id == other_id && text == other_text
            }
            _ => false,
        }
    }
}

impl CredentialSource {
    /// A token or safety code, named by `label`.
    ///
    /// # Errors
    /// When it is empty, or has characters that no token has.
    pub fn of_token(label: &str, token: &Secret) -> Result<Self, CredentialSourceError> {
        let secret = CredentialSecret::Token(checked_token(token.clone())?);
        Ok(Self { label: label.to_owned(), secret, file: None })
    }

    /// A token or safety code in a file. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or its content is no token.
    pub fn of_token_file(file: &Path) -> Result<Self, CredentialSourceError> {
        let secret = CredentialSecret::Token(checked_token(read(file, MAX_TOKEN_BYTES)?)?);
        Ok(Self { label: file_name(file), secret, file: Some(file.to_owned()) })
    }

    /// A GitHub App with its private key in a file. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or its content is no RSA private key.
    pub fn of_app(app_id: &str, key_file: &Path) -> Result<Self, CredentialSourceError> {
        let text = read(key_file, MAX_KEY_BYTES)?;
        let key = app_jwt::parse_key(&text).ok_or(CredentialSourceError::NotKey)?;
        let secret = CredentialSecret::App { app_id: app_id.to_owned(), key: Box::new(key), text };
        Ok(Self { label: format!("app {app_id}"), secret, file: Some(key_file.to_owned()) })
    }

    /// Names the credential in logs and reports; no secret.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Reads the file again; `None` for a credential without a file. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or its content cannot be used.
    pub(super) fn read_again(&self) -> Result<Option<Self>, CredentialSourceError> {
        let Some(file) = self.file.as_deref() else { return Ok(None) };
        match &self.secret {
            CredentialSecret::Token(_) => Self::of_token_file(file).map(Some),
            CredentialSecret::App { app_id, .. } => Self::of_app(app_id, file).map(Some),
        }
    }
}

fn checked_token(token: Secret) -> Result<Secret, CredentialSourceError> {
    let text = token.reveal();
    if text.is_empty() {
        return Err(CredentialSourceError::EmptyFile);
    }
    if text.len() > MAX_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CredentialSourceError::NotToken);
    }
    Ok(token)
}

fn read(file: &Path, max_bytes: usize) -> Result<Secret, CredentialSourceError> {
    let unreadable = |error: io::Error| CredentialSourceError::UnreadableFile(io_reason(&error));
    let mut text = String::new();
    let file = fs::File::open(file).map_err(unreadable)?;
    // One byte more than allowed, so that a file that is too large is seen as such.
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    io::Read::read_to_string(&mut io::Read::take(file, limit), &mut text).map_err(unreadable)?;
    let secret = Secret::new(&text);
    if secret.reveal().is_empty() { Err(CredentialSourceError::EmptyFile) } else { Ok(secret) }
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}
