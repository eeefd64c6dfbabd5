//! The form with which the command line client announces a version and describes the zip that follows.

use url::form_urlencoded;

use super::{ModelFinding, PublishFailure, PublishForm, PublishingError, receive::UploadBody};
use crate::{
    archive::package_model::check_publish_yaml,
    blocking::spawn_blocking,
    package::{ModelRule, PackageKind, PublishManifest},
    registry::hosting::{AnnouncedPackage, manifest_digest},
    service::Service,
    value::memory_budget::MemoryShare,
};

/// Largest form, bytes.
const MAX_FORM_BYTES: usize = 4 << 20;
/// Most bytes of memory for a form per byte of its length: as received, decoded, and parsed.
const FORM_MEMORY: u64 = 4;
/// Longest notes of a version, bytes.
const MAX_NOTES_BYTES: usize = 128 << 10;

/// The version that a form announces.
pub(super) struct AnnouncedVersion {
    /// The name in its `publish.yaml`.
    pub(super) name: String,
    /// The version in it.
    pub(super) version: String,
    /// What the zip must be.
    pub(super) package: AnnouncedPackage,
    /// The rules of the package model that it does not conform to.
    pub(super) findings: Vec<ModelFinding>,
}

/// The fields that are read, each empty if it is absent: the client sends every field.
#[derive(Default)]
struct FormFields {
    publish: String,
    notes: String,
    readme: String,
    syaml: String,
}

/// Reads and checks a form.
///
/// # Errors
/// [`PublishFailure`] for one that is too large, and for one without the name or the version of a package.
pub(super) async fn read(service: &Service, body: &mut UploadBody) -> Result<AnnouncedVersion, PublishFailure> {
    let mut share = service.registry.memory().share();
    let form = body.collect(MAX_FORM_BYTES, FORM_MEMORY, &mut share).await?;
    let parsed = spawn_blocking(move || parse(&form, share)).await;
    parsed.map_err(|_| PublishFailure::bad_request("the form cannot be read"))?
}

/// Parses a form, and holds the share until that is done. Blocks.
fn parse(form: &[u8], _share: MemoryShare) -> Result<AnnouncedVersion, PublishFailure> {
    let mut fields = FormFields::default();
    for (name, value) in form_urlencoded::parse(form) {
        let field = match &*name {
            "publish" => &mut fields.publish,
            "version_body" => &mut fields.notes,
            "readme" => &mut fields.readme,
            "syaml" => &mut fields.syaml,
            _ => continue,
        };
        *field = value.into_owned();
    }
    if fields.publish.is_empty() {
        return Err(PublishFailure::bad_request("the form has no publish, which is the text of publish.yaml"));
    }
    if fields.notes.len() > MAX_NOTES_BYTES {
        let message = format!("the notes of the version (version.md) are longer than {MAX_NOTES_BYTES} bytes");
        return Err(PublishFailure::bad_request(message));
    }
    let checked = check_publish_yaml(fields.publish.as_bytes());
    let findings = [checked.findings, findings_of_files(&checked.manifest, &fields)].concat();
    let PublishManifest { name: Some(name), version: Some(version), .. } = &checked.manifest else {
        return Err(PublishingError::NotConforming(findings).into());
    };
    let form = PublishForm { version_body: fields.notes };
    Ok(AnnouncedVersion {
        name: name.clone(),
        version: version.clone(),
        package: AnnouncedPackage { form, manifest: manifest_digest(&checked.manifest) },
        findings,
    })
}

/// The findings about files that the package model demands and the form lacks.
fn findings_of_files(manifest: &PublishManifest, fields: &FormFields) -> Vec<ModelFinding> {
    let missing = |rule, path: &str| ModelFinding::new(rule, path, format!("{path} is missing"));
    let is_application = manifest.kind.as_deref().and_then(PackageKind::of) == Some(PackageKind::Application);
    let syaml =
        (is_application && fields.syaml.is_empty()).then(|| missing(ModelRule::ApplicationSource, "src/s.yaml"));
    let readme = fields.readme.is_empty().then(|| missing(ModelRule::Readme, "readme.md"));
    [syaml, readme].into_iter().flatten().collect()
}
