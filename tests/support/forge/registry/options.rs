//! What a registry does: each point where the behaviour of the real ones is unknown, and what tests vary besides.

/// The status of the response for a missing package or version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    #[default]
    NotFound,
    /// 200 with the same body.
    Ok,
}

/// How zips are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryZips {
    /// 302 to a signed address of the object storage.
    #[default]
    Redirect,
    /// 200 with the zip.
    Direct,
}

/// How long a signed address is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Seconds(i64),
    /// So many requests, for 600 seconds at most.
    Uses(u64),
}

/// The pages of a v3 release list after the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterLast {
    #[default]
    Empty,
    /// The last page again.
    Repeat,
}

/// The fields of a v3 release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fields {
    /// Every known field.
    #[default]
    Rich,
    /// `tag_name` and `zipball_url` only.
    Certain,
}

/// The validators of zips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validators {
    #[default]
    Both,
    Etag,
    LastModified,
    /// Neither: a change shows in the bytes only.
    None,
}

/// The response to a signature that is not valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadSignature {
    /// The caller counts as anonymous.
    #[default]
    Ignored,
    /// This status with a string body.
    Refused(u16),
}

/// The callers that get the zip of a private package. Its JSON is for callers with a valid signature in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateZips {
    /// Callers with a valid signature.
    #[default]
    Signed,
    /// Everyone: the 3.x CLI signs requests for zips with masked values, which no registry can check.
    Open,
}

/// How times are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// `2024-01-01T01:00:00Z`.
    #[default]
    Utc,
    /// `2024-01-01T09:00:00+08:00`.
    Beijing,
    /// The fields are absent.
    Absent,
}

/// How the catalog names the type of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TypeNames {
    /// `Component`, `Plugin`, `Project`.
    #[default]
    Words,
    /// 1, 2, 3.
    Numbers,
}

/// The behaviour of one registry and of its objects in the storage. Changed by
/// [`Registry::options`](super::Registry::options).
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    pub missing: Missing,
    /// The string body, or the message of a simple error, for what is missing.
    pub missing_text: String,
    /// The code of a simple error for what is missing.
    pub missing_code: String,
    pub zips: RegistryZips,
    pub links: Links,
    /// Host and port in `Location`; the storage's own if `None`.
    pub redirect_to: Option<String>,
    /// What stands before `/packages/…` (v3) or the name (simple) in `zipball_url`; the registry's own address if `None`.
    pub zipball_base: Option<String>,
    /// Length of a page of a v3 release list.
    pub page_size: usize,
    pub after_last: AfterLast,
    pub fields: Fields,
    pub times: Times,
    pub type_names: TypeNames,
    /// Simple releases have `created_at` instead of `published_at`.
    pub created_at: bool,
    pub validators: Validators,
    /// JSON has an `ETag` that changes with its value, and `If-None-Match` is honoured.
    pub json_etags: bool,
    /// Zips are sent in ranges on request.
    pub ranges: bool,
    /// Zips have `Content-Length`.
    pub with_length: bool,
    pub zip_type: String,
    pub bad_signature: BadSignature,
    pub private_zips: PrivateZips,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            missing: Missing::default(),
            missing_text: super::MISSING.to_owned(),
            missing_code: "NotFound".to_owned(),
            zips: RegistryZips::default(),
            links: Links::Seconds(600),
            redirect_to: None,
            zipball_base: None,
            page_size: 10,
            after_last: AfterLast::default(),
            fields: Fields::default(),
            times: Times::default(),
            type_names: TypeNames::default(),
            created_at: false,
            validators: Validators::default(),
            json_etags: false,
            ranges: true,
            with_length: true,
            zip_type: "application/zip".to_owned(),
            bad_signature: BadSignature::default(),
            private_zips: PrivateZips::default(),
        }
    }
}
