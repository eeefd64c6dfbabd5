//! Renditions: documents rendered for a dialect, with its envelope, for every base address and every request.
//!
//! A rendition is a template: the base address and the request's id are filled in for each answer. A page of a list is
//! a part of the list's rendition.

use std::{
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    ops::Range,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::HeaderValue;

use super::{
    found_package::FoundPackage,
    render::{self, Renderer},
};
use crate::{
    dialect::{Dialect, EnvelopePart, Names, PageRequest},
    entry::Digest,
    http::{
        field::strong_etag,
        template::{FilledTemplate, Slot, SlotTexts, Template, TemplateWriter},
    },
    package::{Metadata, Release, Releases, Repository},
    registry::release_facts::ArchiveFacts,
    value::{
        memory_budget::MemoryShare,
        memory_weight::{MemoryWeight, Weigh as _},
    },
};

/// A document of at least about this size in memory, bytes, is rendered beside the requests.
const LARGE_DOCUMENT_BYTES: usize = 64 << 10;
/// Shortest text, in bytes, that is worth compressing.
const MIN_GZIP_BYTES: usize = 1 << 10;

/// The marker for the base address while a document is rendered. Random, so that no upstream's document contains it.
static BASE_MARKER: LazyLock<String> = LazyLock::new(|| marker("base"));

/// The marker for the signature behind the address of a zip, as [`BASE_MARKER`] is for the base.
static SIGNATURE_MARKER: LazyLock<String> = LazyLock::new(|| marker("signature"));

fn marker(name: &str) -> String {
    let random = || RandomState::new().hash_one(0_u8);
    format!("{name}-{:016x}{:016x}", random(), random())
}

/// A rendered document.
pub(super) struct Rendition {
    template: Arc<Template>,
    /// The ranges of a list's items in the text, without the commas between them; empty for what is no list.
    items: Box<[Range<usize>]>,
    /// The entity tag of the whole, with the base that the template was made with.
    etag: HeaderValue,
}

/// Bytes of memory that rendering takes, per byte of the document in memory: the rendered parts, the text, and the buffer that
/// the text has outgrown.
const RENDERING_FACTOR: u64 = 3;

/// The input of a rendition.
pub(super) struct RenderJob {
    /// The base that the template is made with.
    pub(super) base: String,
    pub(super) dialect: Dialect,
    pub(super) names: Arc<Names>,
    pub(super) package: FoundPackage,
    pub(super) document: RenderedDocument,
}

/// A document in the form in which it is rendered.
pub(super) enum RenderedDocument {
    /// A list of releases.
    Releases(Arc<Releases>),
    /// A list of releases as rows of the v3 dialect.
    Rows(Arc<Releases>),
    /// One release.
    Release(Arc<Release>),
    /// One release of a list, by its index.
    ReleaseOf(Arc<Releases>, usize),
    /// The assets of one release of a list, by its index.
    AssetsOf(Arc<Releases>, usize),
    /// One release with what its archive says of the package.
    Detailed(Arc<Release>, Option<ArchiveFacts>),
    /// A repository.
    Repository(Arc<Repository>),
    /// A metadata record.
    Metadata(Arc<Metadata>),
    /// A list of metadata records.
    MetadataList(Arc<Vec<Metadata>>),
}

impl RenderedDocument {
    /// The tag of the one release that the document is of; `None` for a list, and for what is no release.
    pub(super) fn tag(&self) -> Option<&str> {
        match self {
            Self::Release(release) | Self::Detailed(release, _) => Some(&release.tag_name),
            Self::ReleaseOf(list, index) => list.releases.get(*index).map(|release| &*release.tag_name),
            _ => None,
        }
    }

    /// The name of the form, for cache keys: one value can be rendered in several forms.
    pub(super) fn form(&self) -> &'static str {
        match self {
            Self::Releases(_) => "releases",
            Self::Rows(_) => "rows",
            Self::Release(_) | Self::ReleaseOf(..) => "release",
            Self::AssetsOf(..) => "assets",
            Self::Detailed(..) => "detailed",
            Self::Repository(_) => "repository",
            Self::Metadata(_) | Self::MetadataList(_) => "metadata",
        }
    }

    fn weigh(&self, weight: &mut MemoryWeight) {
        let record = |weight: &mut MemoryWeight, record: &Metadata| {
            weight.add_text(&record.version_body);
            weight.add_allocation(size_of::<Metadata>());
        };
        match self {
            Self::Releases(list) | Self::Rows(list) => list.weigh(weight),
            Self::Release(release) => release.weigh(weight),
            Self::ReleaseOf(list, index) | Self::AssetsOf(list, index) => {
                list.releases.get(*index).into_iter().for_each(|release| release.weigh(weight));
            }
            Self::Detailed(release, facts) => {
                release.weigh(weight);
                let files = facts.as_ref().map(|facts| &facts.files);
                files.into_iter().flat_map(|files| [&files.readme, &files.syaml]).for_each(|text| {
                    weight.add_optional_text(text);
                });
            }
            Self::Repository(repository) => repository.weigh(weight),
            Self::Metadata(one) => record(weight, one),
            Self::MetadataList(records) => records.iter().for_each(|one| record(weight, one)),
        }
    }
}

impl RenderJob {
    /// True for a document that takes long to render. Weighs no more of it than [`LARGE_DOCUMENT_BYTES`].
    pub(super) fn is_large(&self) -> bool {
        let mut weight = MemoryWeight::up_to(LARGE_DOCUMENT_BYTES);
        self.document.weigh(&mut weight);
        weight.is_over()
    }

    /// Estimated bytes of memory that the rendering takes.
    pub(super) fn estimate(&self) -> u64 {
        let mut weight = MemoryWeight::unlimited();
        self.document.weigh(&mut weight);
        RENDERING_FACTOR * weight.bytes() as u64
    }

    /// Renders the document.
    pub(super) fn render(self) -> Rendition {
        let mut writer = RenditionWriter::new(&self.base);
        for part in self.dialect.envelope() {
            match part {
                EnvelopePart::Value => self.write_value(&mut writer),
                part => writer.push_envelope(part),
            }
        }
        writer.finish(&self.base)
    }

    fn write_value(&self, writer: &mut RenditionWriter) {
        let renderer = Renderer {
            dialect: self.dialect,
            base: &BASE_MARKER,
            signature: &SIGNATURE_MARKER,
            names: &self.names,
            package: self.package.id(),
            folder: self.package.folder(),
        };
        match &self.document {
            RenderedDocument::Releases(list) => {
                writer.push_list(list.releases.iter().map(|release| renderer.release(release)));
            }
            RenderedDocument::Rows(list) => {
                writer.push_list(list.releases.iter().map(|release| renderer.release_row(release)));
            }
            RenderedDocument::Release(release) => writer.push_value(&renderer.release(release)),
            RenderedDocument::ReleaseOf(list, index) => writer.push_value(&renderer.release(&list.releases[*index])),
            RenderedDocument::AssetsOf(list, index) => writer.push_value(&renderer.assets(&list.releases[*index])),
            RenderedDocument::Detailed(release, facts) => {
                writer.push_value(&renderer.detailed_release(release, facts.as_ref()));
            }
            RenderedDocument::Repository(repository) => writer.push_value(&renderer.repository(repository)),
            RenderedDocument::Metadata(record) => writer.push_value(&render::metadata(record)),
            RenderedDocument::MetadataList(records) => writer.push_list(records.iter().map(render::metadata)),
        }
    }
}

/// Writes a rendition.
struct RenditionWriter {
    template: TemplateWriter,
    items: Vec<Range<usize>>,
}

impl RenditionWriter {
    fn new(base: &str) -> Self {
        let standing = SlotTexts::default().with(Slot::Base, base);
        Self { template: TemplateWriter::new(standing), items: Vec::new() }
    }

    fn push_envelope(&mut self, part: &EnvelopePart) {
        match part {
            EnvelopePart::Text(text) => self.template.push(text),
            EnvelopePart::RequestId => self.template.push_hole(Slot::RequestId),
            EnvelopePart::Value => {}
        }
    }

    fn push_value(&mut self, json: &str) {
        self.template.push_marked(json, &[(&BASE_MARKER, Slot::Base), (&SIGNATURE_MARKER, Slot::Signature)]);
    }

    fn push_list(&mut self, items: impl Iterator<Item = String>) {
        self.template.push("[");
        for item in items {
            if !self.items.is_empty() {
                self.template.push(",");
            }
            let start = self.template.position();
            self.push_value(&item);
            self.items.push(start..self.template.position());
        }
        self.template.push("]");
    }

    fn finish(self, base: &str) -> Rendition {
        let template = Arc::new(self.template.finish());
        let etag = entity_tag(&template, base, None);
        Rendition { template, items: self.items.into(), etag }
    }
}

impl Rendition {
    /// A JSON value in a dialect's envelope, for one request only.
    pub(super) fn of_value(dialect: Dialect, json: &str) -> Self {
        let mut writer = RenditionWriter::new("");
        for part in dialect.envelope() {
            match part {
                EnvelopePart::Value => writer.template.push(json),
                part => writer.push_envelope(part),
            }
        }
        writer.finish("")
    }

    /// The same rendition, whose text holds this share of memory until its last reader has left.
    pub(super) fn counted_in(self, share: MemoryShare) -> Self {
        Self { template: Arc::new(self.template.counted_in(share)), ..self }
    }

    /// The whole or one page, with these texts filled in. Shares the rendition's text.
    pub(super) fn fill(&self, texts: &SlotTexts, page: Option<PageRequest>) -> FilledTemplate {
        let len = self.template.text().len();
        let (Some(page), Some(first), Some(last)) = (page, self.items.first(), self.items.last()) else {
            return self.template.fill(texts);
        };
        let shown = page.slice(&self.items);
        let shown = shown.first().zip(shown.last()).map_or(0..0, |(first, last)| first.start..last.end);
        self.template.fill_parts(texts, [0..first.start, shown, last.end..len])
    }

    /// The entity tag of the whole or one page for a base. Reads none of the text.
    pub(super) fn etag(&self, base: &str, page: Option<PageRequest>) -> HeaderValue {
        match page {
            None if self.template.stands(Slot::Base, base) => self.etag.clone(),
            page => entity_tag(&self.template, base, page),
        }
    }

    /// True when the whole is worth compressing.
    pub(super) fn is_worth_compressing(&self) -> bool {
        self.template.text().len() >= MIN_GZIP_BYTES
    }

    /// The whole with the base that the template was made with, compressed. `None` when the compression fails.
    pub(super) fn gzip(&self) -> Option<Self> {
        let text = self.template.text();
        let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::default());
        encoder.write_all(text).ok()?;
        let mut bytes = encoder.finish().ok()?;
        bytes.shrink_to_fit();
        let etag = self.gzip_etag();
        let digest = Digest::of(etag.as_bytes());
        Some(Self { template: Arc::new(Template::of_bytes(bytes.into(), digest)), items: Box::default(), etag })
    }

    /// The entity tag of what [`Rendition::gzip`] makes, without making it. Another release may compress otherwise.
    pub(super) fn gzip_etag(&self) -> HeaderValue {
        let mut named = self.etag.as_bytes().to_vec();
        named.extend_from_slice(concat!("gzip ", env!("CARGO_PKG_VERSION")).as_bytes());
        etag_of(&named)
    }

    /// The whole text as it is in memory, if that is the answer for this base.
    pub(super) fn whole_with(&self, base: &str) -> Option<&Bytes> {
        let is_whole = self.template.stands(Slot::Base, base) && !self.template.has(Slot::RequestId);
        is_whole.then(|| self.template.text())
    }

    /// True when the rendition contains addresses of zips.
    pub(super) fn has_zip_addresses(&self) -> bool {
        self.template.has(Slot::Signature)
    }

    /// The number of items of a list.
    pub(super) fn item_count(&self) -> usize {
        self.items.len()
    }

    /// Bytes of memory that it takes.
    pub(super) fn weight(&self) -> usize {
        self.template.weight() + self.items.len() * size_of::<Range<usize>>() + self.etag.len() + size_of::<Self>()
    }
}

fn entity_tag(template: &Template, base: &str, page: Option<PageRequest>) -> HeaderValue {
    let mut named = template.digest().0.to_vec();
    if template.has(Slot::Base) {
        named.extend_from_slice(base.as_bytes());
    }
    if let Some(page) = page {
        let mut text = String::new();
        // A space occurs in no base. Writing to a text does not fail.
        let _ = write!(text, " {} {}", page.per_page, page.page);
        named.extend_from_slice(text.as_bytes());
    }
    etag_of(&named)
}

fn etag_of(named: &[u8]) -> HeaderValue {
    HeaderValue::try_from(strong_etag(&Digest::of(named))).unwrap_or(HeaderValue::from_static("\"\""))
}
