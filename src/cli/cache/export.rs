//! `srm-mirror cache export`: what a network without internet gets on a stick.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Seek as _, Write as _},
    path::Path,
};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    bundle::{self, Listed, MANIFEST, Manifest},
    table::size,
};
use crate::{
    cli::{
        CacheArgs, FAILED,
        admin_client::{self, AdminClient, accepted, unreachable},
        atomic_file::{AtomicFile, SHARED_FILE_MODE},
        print,
    },
    entry::{Digest, ExportedArchive, ExportedDocument},
};

/// Writes a bundle. It has its name only when it is whole.
pub(super) fn run(place: &CacheArgs, file: &Path, pattern: Option<String>) -> anyhow::Result<u8> {
    let archive = AtomicFile::create(file, SHARED_FILE_MODE).map_err(unwritten(file))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let documents = tempfile::tempfile_in(folder).map_err(unwritten(file))?;
    let ask = json!({"pattern": pattern});
    let done = admin_client::run(place.load()?, async |session| {
        let mut bundle = Bundle { out: archive.file(), documents, file };
        bundle.write(session, &ask).await
    });
    let (zips, bytes) = done?;
    if zips == 0 {
        print("nothing of that is stored\n");
        return Ok(FAILED);
    }
    archive.publish().map_err(unwritten(file))?;
    print(&format!("{zips} zips, {} in {}\n", size(bytes), file.display()));
    Ok(0)
}

/// A bundle that is being written.
struct Bundle<'b> {
    out: &'b File,
    /// The documents wait here: the manifest, which comes first, has to name them all.
    documents: File,
    /// Its name, for whoever has to be told.
    file: &'b Path,
}

impl Bundle<'_> {
    /// The number of zips, and of all bytes.
    async fn write(&mut self, session: &AdminClient, ask: &Value) -> anyhow::Result<(usize, u64)> {
        let mut manifest = Manifest { format: bundle::FORMAT, documents: Vec::new(), zips: Vec::new() };
        let each = |mut line: Value| {
            if let Some(claim) = line.get_mut("zip") {
                manifest.zips.push(serde_json::from_value(claim.take())?);
                return Ok(());
            }
            let document: ExportedDocument = serde_json::from_value(line["document"].take())?;
            let text = serde_json::to_vec(&document)?;
            let sha256 = Digest::of(&text);
            let len = text.len() as u64;
            put(&self.documents, &format!("documents/{sha256}"), &text).map_err(unwritten(self.file))?;
            manifest.documents.push(Listed { key: document.key, sha256, len });
            Ok(())
        };
        session.lines("claims", ask, each).await?;
        put(self.out, MANIFEST, &serde_json::to_vec(&manifest)?).map_err(unwritten(self.file))?;
        self.documents
            .rewind()
            .and_then(|()| io::copy(&mut self.documents, &mut self.out))
            .map_err(unwritten(self.file))?;
        let mut written = BTreeSet::new();
        for claim in manifest.zips.iter().filter(|claim| written.insert(claim.meta.digest)) {
            self.zip(session, claim).await?;
        }
        // Two empty blocks end a tar archive.
        self.out.write_all(&[0; 1024]).map_err(unwritten(self.file))?;
        let len = self.out.metadata().map_err(unwritten(self.file))?.len();
        Ok((manifest.zips.len(), len))
    }

    async fn zip(
        &mut self,
        session: &AdminClient,
        ExportedArchive { key, meta, .. }: &ExportedArchive,
    ) -> anyhow::Result<()> {
        let body = serde_json::to_vec(&json!({"key": key}))?;
        let answer = session.request(Method::POST, "/-/zip").body(body).send().await.map_err(unreachable)?;
        let answer = accepted(answer).await.with_context(|| format!("export {key}"))?;
        let header = bundle::header(&format!("blobs/{}", meta.digest), meta.len)?;
        self.out.write_all(header.as_bytes()).map_err(unwritten(self.file))?;
        let mut zip = answer.bytes_stream();
        let mut sha = Sha256::new();
        let mut len = 0;
        while let Some(chunk) = zip.next().await {
            let chunk = chunk.map_err(unreachable)?;
            (len, _) = (len + chunk.len() as u64, sha.update(&chunk));
            self.out.write_all(&chunk).map_err(unwritten(self.file))?;
        }
        anyhow::ensure!(
            len == meta.len && Digest(sha.finalize().into()) == meta.digest,
            "{key} is damaged; srm-mirror cache verify mends it"
        );
        self.out.write_all(&vec![0; bundle::padding(len)]).map_err(unwritten(self.file))
    }
}

/// Adds the file's name to what the system says.
fn unwritten(file: &Path) -> impl FnOnce(io::Error) -> anyhow::Error {
    move |error| anyhow::Error::from(error).context(format!("cannot write {}", file.display()))
}

fn put(mut out: &File, name: &str, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bundle::header(name, bytes.len() as u64)?.as_bytes())?;
    out.write_all(bytes)?;
    out.write_all(&vec![0; bundle::padding(bytes.len() as u64)])
}
