//! `srm-mirror cache import`: imports a bundle as a whole, and names what was not stored.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::json;

use super::{
    ConfirmArgs,
    bundle::{self, Bundle, BundledArchive},
    confirm,
};
use crate::{
    admin_api::{
        CheckDocument, ErrorCode, ImportArchive, ImportDocument, ImportSource, ImportState, ImportedSource,
        ImportedState, PlanImport, ReadStats, ReadStatus,
    },
    archive::ZipVerifier,
    cli::{
        FAILED, UsageError,
        admin_args::AdminArgs,
        admin_client::{self, AdminClient, AdminRefusal, classify_bucket_error},
        byte_bar::ByteBar,
        escape_terminal, escape_terminal_lines, print,
    },
    entry::{ExportedArchive, Key, RecordedSource},
    value::{ByteSize, memory_budget::MemoryBudget, text::size},
};

/// Most bytes of a zip that are read at once.
const MAX_CHUNK_BYTES: usize = 256 << 10;
/// Most zips of one [`PlanImport`]: the size of a request is limited.
const MAX_PLANNED_ZIPS: usize = 1000;
/// A file takes a multiple of this on disk, bytes.
const DISK_BLOCK_BYTES: u64 = 4096;

/// Checks a bundle as a whole, compares it with the pins, and only then imports it. What is stored already is not sent
/// again, so a second run continues an interrupted one. Exit code 1 when something is not imported.
pub(super) fn run(cache: &AdminArgs, path: &Path, force: bool, flags: &ConfirmArgs) -> anyhow::Result<u8> {
    let loaded = cache.load()?;
    let archives = &loaded.config.archives;
    let verifier = ZipVerifier {
        max_entries: archives.max_entries,
        max_inflated: archives.max_inflated.0,
        memory: MemoryBudget::unlimited(),
    };
    let bundle = bundle::check(path, &verifier, &ByteBar::new("check"))?;
    admin_client::run_at(cache, async |client| {
        BundleImport { client, bundle: &bundle, path, output: ImportOutput::new(flags.json) }.run(force, flags).await
    })
}

struct BundleImport<'i> {
    client: &'i AdminClient,
    bundle: &'i Bundle,
    path: &'i Path,
    output: ImportOutput,
}

/// Whether an import changes anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ImportMode {
    DryRun,
    Import,
}

/// The result of sending a zip.
enum SentZip {
    Imported,
    /// The bucket's objects of its version are damaged; the other zips can be imported.
    DamagedInBucket,
}

/// The zips that were imported.
#[derive(Default)]
struct ImportedZips {
    count: usize,
    bytes: u64,
}

/// The result of importing the documents.
#[derive(Default)]
struct ImportedDocuments {
    /// The number of those that were stored.
    stored: usize,
    /// The number of those that are damaged in the bucket.
    damaged: usize,
}

/// What an import prints: lines as they come, or one JSON object at its end.
struct ImportOutput {
    /// What happened and what it was about, until the end; `None` when lines are printed.
    json: Option<RefCell<Vec<(&'static str, String)>>>,
}

impl ImportOutput {
    fn new(json: bool) -> Self {
        Self { json: json.then(RefCell::default) }
    }

    /// Reports something that was not imported as the bundle has it.
    fn line(&self, what: &'static str, text: &str) {
        match &self.json {
            Some(lines) => lines.borrow_mut().push((what, text.to_owned())),
            None => print(&format!("{what}  {}\n", escape_terminal(text))),
        }
    }

    /// Prints the result of the import; returns `code`.
    fn end(&self, code: u8, imported: usize, text: &str) -> u8 {
        print(&match &self.json {
            Some(lines) => {
                let notes = lines.take().into_iter().map(|(what, about)| json!({"what": what, "about": about}));
                let notes: Vec<_> = notes.collect();
                format!("{}\n", json!({"imported": imported, "failed": code != 0, "message": text, "notes": notes}))
            }
            None => format!("{}\n", escape_terminal_lines(text)),
        });
        code
    }
}

impl BundleImport<'_> {
    async fn run(&self, force: bool, flags: &ConfirmArgs) -> anyhow::Result<u8> {
        let zips = &self.bundle.zips;
        let states = self.plan().await?;
        self.ensure_accepted(&states).await?;
        let has_conflicts = self.report_conflicts(&states);
        if has_conflicts && !force {
            return Ok(self.output.end(FAILED, 0, "nothing was imported; --force replaces the pins"));
        }
        let refused = self.report_refused(&states);
        let limit = self.client.call(&ReadStats {}).await?.disk.limit;
        // What does not stay on disk is in the bucket.
        let has_bucket = self.client.call(&ReadStatus {}).await?.shared.is_some();
        let needed = needed_bytes(zips.iter().map(|zip| &zip.claim));
        if needed > limit && !has_bucket {
            let path = self.path.display();
            let needed = size(needed);
            let limit = ByteSize(limit);
            let why = format!(
                "nothing was imported: the zips of {path} take {needed} and disk.limit is {limit}; raise it, or export fewer"
            );
            return Ok(self.output.end(FAILED, 0, &why));
        }
        let is_wanted = |zip: &&BundledArchive| {
            matches!(states.get(&zip.claim.key), Some(ImportState::Wanted | ImportState::Conflict))
        };
        let wanted: Vec<&BundledArchive> = zips.iter().filter(is_wanted).collect();
        let stored = zips.len() - wanted.len() - refused;
        let code = if refused == 0 { 0 } else { FAILED };
        if flags.dry_run {
            let code = if self.import_sources(ImportMode::DryRun).await? == 0 { code } else { FAILED };
            let bytes = size(wanted.iter().map(|zip| zip.claim.meta.len).sum());
            let text = format!("{} zips ({bytes}) would be imported, {stored} are here already", wanted.len());
            return Ok(self.output.end(code, 0, &text));
        }
        if has_conflicts && !flags.yes && !confirm("replace the pins?")? {
            return Ok(FAILED);
        }
        let ImportedZips { count, bytes } = self.import_zips(&wanted, &states).await?;
        let documents = self.import_documents().await?;
        let refused_sources = self.import_sources(ImportMode::Import).await?;
        let lost = if has_bucket { 0 } else { self.report_lost().await? };
        let bytes = size(bytes);
        let mut text = format!(
            "{count} zips ({bytes}) and {} documents imported; {stored} zips were here already",
            documents.stored
        );
        if lost > 0 {
            let limit = ByteSize(limit);
            text += &format!("\n{lost} of the bundle are not stored: disk.limit is {limit}; raise it, or export fewer");
        }
        let not_imported = lost + documents.damaged + refused_sources + wanted.len() - count;
        let code = if not_imported > 0 { FAILED } else { code };
        Ok(self.output.end(code, count, &text))
    }

    /// Names the zips for which other content is pinned here. Returns true if there are any.
    fn report_conflicts(&self, states: &HashMap<Key, ImportState>) -> bool {
        let mut found = false;
        for zip in &self.bundle.zips {
            let key = &zip.claim.key;
            if states.get(key) == Some(&ImportState::Conflict) {
                found = true;
                self.output.line("conflict", &format!("{key}: other content is pinned here"));
            }
        }
        found
    }

    /// Names the zips that the bucket does not take. Returns the number of these.
    fn report_refused(&self, states: &HashMap<Key, ImportState>) -> usize {
        let mut refused = 0;
        for zip in &self.bundle.zips {
            let key = &zip.claim.key;
            match states.get(key) {
                Some(ImportState::Overruled) => {
                    refused += 1;
                    let text = format!("{key}: the bucket has other content, which counts; not imported");
                    self.output.line("overruled", &text);
                }
                Some(ImportState::Damaged) => {
                    refused += 1;
                    self.report_damaged(key);
                }
                _ => {}
            }
        }
        refused
    }

    /// Sends the zips, and names those that are damaged in the bucket.
    async fn import_zips(
        &self,
        wanted: &[&BundledArchive],
        states: &HashMap<Key, ImportState>,
    ) -> anyhow::Result<ImportedZips> {
        let bar = ByteBar::new("import");
        bar.set_length(wanted.iter().map(|zip| zip.claim.meta.len).sum());
        let mut imported = ImportedZips::default();
        for zip in wanted {
            let len = zip.claim.meta.len;
            let replaces_pin = states.get(&zip.claim.key) == Some(&ImportState::Conflict);
            match self.send(zip, replaces_pin).await? {
                SentZip::Imported => {
                    imported.count += 1;
                    imported.bytes += len;
                }
                SentZip::DamagedInBucket => self.report_damaged(&zip.claim.key),
            }
            bar.advance(len);
        }
        Ok(imported)
    }

    /// Names a version whose objects in the bucket are damaged.
    fn report_damaged(&self, key: &Key) {
        let text = format!("{key}: its pin, or the mark of its zip, is damaged in the bucket; not imported");
        self.output.line("damaged", &text);
    }

    /// Refuses a bundle with a zip or a document that this mirror cannot store.
    async fn ensure_accepted(&self, states: &HashMap<Key, ImportState>) -> anyhow::Result<()> {
        let path = self.path.display();
        let refused = |zip: &&BundledArchive| states.get(&zip.claim.key) == Some(&ImportState::Refused);
        if let Some(zip) = self.bundle.zips.iter().find(refused) {
            let key = &zip.claim.key;
            let why =
                format!("{path}: this mirror has no place for {key}: no such upstream, a wrong name, or too large");
            return Err(UsageError(why).into());
        }
        for document in &self.bundle.documents {
            let checked = self.client.call(&CheckDocument(self.bundle.document(document)?)).await;
            checked.with_context(|| path.to_string())?;
        }
        Ok(())
    }

    /// Asks what an import of each zip would do.
    async fn plan(&self) -> anyhow::Result<HashMap<Key, ImportState>> {
        let mut states = HashMap::new();
        for zips in self.bundle.zips.chunks(MAX_PLANNED_ZIPS) {
            let request = PlanImport(zips.iter().map(|zip| zip.claim.clone()).collect());
            let planned = self.client.collect(&request).await.map_err(classify_bucket_error)?;
            states.extend(planned.into_iter().map(|planned| (planned.key, planned.state)));
        }
        Ok(states)
    }

    /// Sends one zip. With `force`, its pin is replaced where it has other content.
    async fn send(&self, zip: &BundledArchive, force: bool) -> anyhow::Result<SentZip> {
        let BundledArchive { claim, offset } = zip;
        let mut head = serde_json::to_vec(&ImportArchive { force, claim: claim.clone() })?;
        head.push(b'\n');
        let read_error = Arc::new(OnceLock::new());
        let bytes = read_section(self.bundle.file.try_clone()?, *offset, claim.meta.len, read_error.clone());
        let body = reqwest::Body::wrap_stream(stream::iter([Ok(Bytes::from(head))]).chain(bytes));
        let sent = self.client.import_archive(body).await;
        if let Some(kind) = read_error.get() {
            return Err(io::Error::from(*kind)).with_context(|| format!("cannot read {}", self.path.display()));
        }
        match sent {
            Ok(_) => Ok(SentZip::Imported),
            Err(error) if has_code(&error, ErrorCode::DamagedInBucket) => Ok(SentZip::DamagedInBucket),
            Err(error) => Err(classify_bucket_error(error)).with_context(|| format!("import {}", claim.key)),
        }
    }

    /// Imports the documents, and names those that are damaged in the bucket.
    async fn import_documents(&self) -> anyhow::Result<ImportedDocuments> {
        let mut documents = ImportedDocuments::default();
        for document in &self.bundle.documents {
            let key = &document.key;
            match self.client.call(&ImportDocument(self.bundle.document(document)?)).await {
                Ok(imported) => documents.stored += usize::from(imported.state == ImportedState::Stored),
                Err(error) if has_code(&error, ErrorCode::DamagedInBucket) => {
                    documents.damaged += 1;
                    self.output.line("damaged", &format!("{key}: it is damaged in the bucket; not imported"));
                }
                Err(error) => return Err(classify_bucket_error(error)).with_context(|| format!("import {key}")),
            }
        }
        Ok(documents)
    }

    /// Records the sources of names that have none here, and names each that differs from the one recorded here, which
    /// stays. That is no failure: the content is imported. Returns the number of those that the bucket does not take, each of
    /// which is named.
    async fn import_sources(&self, mode: ImportMode) -> anyhow::Result<usize> {
        let dry_run = mode == ImportMode::DryRun;
        let mut refused = 0;
        for source in &self.bundle.sources {
            let RecordedSource { name, dialect, upstream, .. } = source;
            let name = format!("{name} in {}", dialect.as_str());
            let why = match self.client.call(&ImportSource { source: source.clone(), dry_run }).await {
                Ok(ImportedSource::Recorded | ImportedSource::Known) => continue,
                Ok(ImportedSource::Different { local }) => format!("{local} is recorded here and stays"),
                Ok(ImportedSource::OffRoute) => {
                    "the routes of this mirror do not lead there; it is not recorded".to_owned()
                }
                Err(error) if has_code(&error, ErrorCode::DamagedInBucket) => {
                    refused += 1;
                    let why = "its record, or what operators have set, is damaged in the bucket; not recorded";
                    self.output.line("damaged", &format!("{name}: {why}"));
                    continue;
                }
                Err(error) if has_code(&error, ErrorCode::NoSpace) => {
                    refused += 1;
                    self.output.line("no-room", &format!("{name}: operators have set too many sources; not recorded"));
                    continue;
                }
                Err(error) => {
                    return Err(classify_bucket_error(error)).with_context(|| format!("import the source of {name}"));
                }
            };
            self.output.line("source", &format!("{name} is {upstream} in the bundle: {why}"));
        }
        Ok(refused)
    }

    /// Names what is not on disk because later parts of the bundle evicted it. Returns the number of these.
    async fn report_lost(&self) -> anyhow::Result<usize> {
        let mut lost = 0;
        let mut print_lost = |key: &Key| {
            lost += 1;
            self.output.line("lost", &format!("{key}: later imports evicted it"));
        };
        let states = self.plan().await?;
        for zip in &self.bundle.zips {
            if states.get(&zip.claim.key) != Some(&ImportState::Stored) {
                print_lost(&zip.claim.key);
            }
        }
        for document in &self.bundle.documents {
            let checked = self.client.call(&CheckDocument(self.bundle.document(document)?)).await?;
            if checked.state != ImportedState::Stored {
                print_lost(&document.key);
            }
        }
        Ok(lost)
    }
}

fn has_code(error: &anyhow::Error, code: ErrorCode) -> bool {
    error.downcast_ref::<AdminRefusal>().is_some_and(|refusal| refusal.code == code)
}

/// The least that zips take on disk, bytes; a blob of several keys counts once.
fn needed_bytes<'c>(claims: impl Iterator<Item = &'c ExportedArchive>) -> u64 {
    let mut blobs = HashSet::new();
    let lens = claims.filter(|claim| blobs.insert(claim.meta.digest)).map(|claim| claim.meta.len);
    lens.map(|len| len.next_multiple_of(DISK_BLOCK_BYTES)).sum()
}

/// Reads a part of a file in chunks. An error of reading it is put into `read_error`: the HTTP client reports only that the
/// body ended early.
fn read_section(
    file: File,
    offset: u64,
    len: u64,
    read_error: Arc<OnceLock<io::ErrorKind>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((Arc::new(file), offset, len), move |(file, offset, left)| {
        let read_error = read_error.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(MAX_CHUNK_BYTES);
            let reader = file.clone();
            let read = move || {
                let mut buf = vec![0; len];
                reader.read_exact_at(&mut buf, offset).map(|()| buf)
            };
            let read = crate::blocking::spawn_blocking(read).await.map_err(io::Error::other).flatten();
            let buf = read.inspect_err(|error| read_error.set(error.kind()).unwrap_or_default())?;
            Ok(Some((Bytes::from(buf), (file, offset + len as u64, left - len as u64))))
        }
    })
}
