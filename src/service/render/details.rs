//! The fields of a v3 release that describe its package.

use serde_json::{Map, Value};

use crate::{
    package::{NameForm, PackageId, PackageKind, PublishManifest, Release},
    registry::release_facts::{ArchiveFacts, PackageFiles},
};

/// What an archive says of its package, parsed for rendering.
struct ShownFacts<'a> {
    manifest: PublishManifest,
    files: &'a PackageFiles,
}

/// A field, and how it is read from an archive; `None` for a field that no archive has.
type Detail = (&'static str, Option<fn(&ShownFacts<'_>) -> Option<Value>>);

/// The fields in their order.
const DETAILS: [Detail; 12] = [
    ("type", Some(kind)),
    ("description", Some(|facts| text(&facts.manifest.description))),
    ("provider", Some(|facts| texts(&facts.manifest.provider))),
    ("category", Some(|facts| text(&facts.manifest.category))),
    ("tags", Some(|facts| texts(&facts.manifest.tags))),
    ("home", Some(|facts| text(&facts.manifest.home_page))),
    ("readme", Some(|facts| text(&facts.files.readme))),
    ("syaml", Some(|facts| text(&facts.files.syaml))),
    ("organization", Some(|facts| text(&facts.manifest.organization))),
    ("user", None),
    ("download", None),
    ("create", None),
];

/// What is known of the package of a release: from the upstream, else from the archive. Unknown fields are absent.
pub(super) fn of_release(package: &PackageId, release: &Release, facts: Option<&ArchiveFacts>) -> Map<String, Value> {
    let facts = facts.map(|facts| ShownFacts { manifest: facts.content.manifest(), files: &facts.files });
    let detail = |(field, of_archive): Detail| {
        let of_archive = || of_archive.zip(facts.as_ref()).and_then(|(of_archive, facts)| of_archive(facts));
        let value = of_upstream(package, release, field).cloned().or_else(of_archive)?;
        Some((field.to_owned(), value))
    };
    DETAILS.into_iter().filter_map(detail).collect()
}

/// True when the upstream leaves out a field that an archive may have.
pub(in crate::service) fn are_missing(package: &PackageId, release: &Release) -> bool {
    DETAILS.iter().any(|(field, of_archive)| of_archive.is_some() && of_upstream(package, release, field).is_none())
}

/// The upstream's value of a field; empty values count as absent. The further fields of a forge describe the release, not the
/// package.
fn of_upstream<'r>(package: &PackageId, release: &'r Release, field: &str) -> Option<&'r Value> {
    if package.name.form() != NameForm::Plain {
        return None;
    }
    release.rest.get(field).filter(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    })
}

/// The type of the package, in the registry's word.
fn kind(facts: &ShownFacts<'_>) -> Option<Value> {
    let word = facts.manifest.kind.as_deref()?;
    Some(PackageKind::of(word).map_or(word, |kind| kind.registry_word()).into())
}

fn text(text: &Option<String>) -> Option<Value> {
    text.clone().map(Value::from)
}

fn texts(texts: &[String]) -> Option<Value> {
    (!texts.is_empty()).then(|| texts.into())
}
