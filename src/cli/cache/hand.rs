//! `srm-mirror cache export` and `import`: what a network without internet gets on a stick.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Sure,
    bundle::{self, Bundle, Listed, MANIFEST, Manifest},
    confirmed, lines_of,
    table::size,
};
use crate::{
    archive::ZipVerifier,
    cli::{
        FAILED, Place, Wrong, print,
        session::{self, Session, accepted, unreachable},
    },
    entry::{Claim, Digest, HandedDocument},
};

/// Bytes of a zip that are read at once.
const CHUNK: usize = 256 << 10;

/// Writes a bundle. It has its name only when it is whole.
pub(super) fn export(place: &Place, file: &Path, pattern: Option<String>) -> anyhow::Result<u8> {
    let draft = file.with_added_extension("partial");
    let done = session::run(place.load()?, async |session| write(session, &draft, pattern).await);
    match done {
        Ok((0, _)) => {
            fs::remove_file(&draft)?;
            print("nothing of that is stored\n");
            Ok(FAILED)
        }
        Ok((zips, bytes)) => {
            fs::rename(&draft, file)?;
            print(&format!("{zips} zips, {} in {}\n", size(bytes), file.display()));
            Ok(0)
        }
        Err(error) => {
            let _ = fs::remove_file(&draft);
            Err(error)
        }
    }
}

async fn write(session: &Session, draft: &Path, pattern: Option<String>) -> anyhow::Result<(usize, u64)> {
    let mut manifest = Manifest { format: bundle::FORMAT, documents: Vec::new(), zips: Vec::new() };
    let mut documents = Vec::new();
    for mut line in lines_of(session, "claims", &json!({"pattern": pattern})).await? {
        if let Some(claim) = line.get_mut("zip") {
            manifest.zips.push(serde_json::from_value(claim.take())?);
        } else {
            let document: HandedDocument = serde_json::from_value(line["document"].take())?;
            let text = serde_json::to_vec(&document)?;
            let (sha256, len) = (Digest::of(&text), text.len() as u64);
            manifest.documents.push(Listed { key: document.key, sha256, len });
            documents.push((sha256, text));
        }
    }
    let mut out = File::create(draft)?;
    put(&mut out, MANIFEST, &serde_json::to_vec(&manifest)?)?;
    for (sha256, text) in &documents {
        put(&mut out, &format!("documents/{sha256}"), text)?;
    }
    let mut written = BTreeSet::new();
    for Claim { key, meta, .. } in &manifest.zips {
        if !written.insert(meta.digest) {
            continue;
        }
        let body = serde_json::to_vec(&json!({"key": key}))?;
        let answer = session.request(Method::POST, "/-/zip").body(body).send().await.map_err(unreachable)?;
        let mut zip = accepted(answer).await?.bytes_stream();
        out.write_all(bundle::header(&format!("blobs/{}", meta.digest), meta.len)?.as_bytes())?;
        let (mut sha, mut len) = (Sha256::new(), 0);
        while let Some(chunk) = zip.next().await {
            let chunk = chunk.map_err(unreachable)?;
            (len, _) = (len + chunk.len() as u64, sha.update(&chunk));
            out.write_all(&chunk)?;
        }
        anyhow::ensure!(
            len == meta.len && Digest(sha.finalize().into()) == meta.digest,
            "{key} is damaged; srm-mirror cache verify mends it"
        );
        out.write_all(&vec![0; bundle::padding(len)])?;
    }
    // Two empty blocks end a tar archive.
    out.write_all(&[0; 1024])?;
    out.sync_all()?;
    Ok((manifest.zips.len(), out.metadata()?.len()))
}

fn put(out: &mut File, name: &str, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bundle::header(name, bytes.len() as u64)?.as_bytes())?;
    out.write_all(bytes)?;
    out.write_all(&vec![0; bundle::padding(bytes.len() as u64)])
}

/// Checks a bundle as a whole, compares it with what was first seen here, and only then takes it in. What is stored
/// already is not sent again, so a second run goes on where a first one ended.
pub(super) fn import(place: &Place, file: &Path, force: bool, sure: &Sure) -> anyhow::Result<u8> {
    let loaded = place.load()?;
    let archives = &loaded.config.archives;
    let verifier = ZipVerifier { max_entries: archives.max_entries, max_inflated: archives.max_inflated.0 };
    let Bundle { file, documents, zips } = bundle::check(file, &verifier)?;
    let file = Arc::new(file);
    session::run(loaded, async |session| {
        let claims: Vec<&Claim> = zips.iter().map(|(claim, _)| claim).collect();
        let plan = lines_of(session, "import/plan", &json!(claims)).await?;
        let states: BTreeMap<&str, &str> =
            plan.iter().filter_map(|line| Some((line["key"].as_str()?, line["state"].as_str()?))).collect();
        let state = |claim: &Claim| states.get(claim.key.as_str()).copied().unwrap_or("wanted");
        if let Some(claim) = claims.iter().find(|claim| state(claim) == "refused") {
            return Err(Wrong(format!("this mirror has no upstream for {}, or it is too large", claim.key)).into());
        }
        for document in &documents {
            session.post("import/document/check", document).await?;
        }
        let conflicts: Vec<_> = claims.iter().filter(|claim| state(claim) == "conflict").collect();
        for claim in &conflicts {
            print(&format!("conflict  {}: other content was first seen here\n", claim.key));
        }
        if !conflicts.is_empty() && !force {
            print("nothing was imported; --force replaces what was first seen here\n");
            return Ok(FAILED);
        }
        let wanted: Vec<_> = zips.iter().filter(|(claim, _)| state(claim) != "stored").collect();
        let bytes = wanted.iter().map(|(claim, _)| claim.meta.len).sum();
        let there = zips.len() - wanted.len();
        if sure.dry_run {
            print(&format!("{} zips ({}) would be imported, {there} are here already\n", wanted.len(), size(bytes)));
            return Ok(0);
        }
        if !conflicts.is_empty() && !sure.yes && !confirmed("replace what was first seen here?")? {
            return Ok(FAILED);
        }
        for (claim, offset) in &wanted {
            let head = format!("{}\n", json!({"force": force, "claim": claim}));
            let body = reqwest::Body::wrap_stream(stream::iter([Ok(Bytes::from(head))]).chain(part(
                file.clone(),
                *offset,
                claim.meta.len,
            )));
            let sent = session.request(Method::POST, "/-/import/zip").body(body).send().await;
            accepted(sent.map_err(unreachable)?).await.with_context(|| format!("import {}", claim.key))?;
        }
        let mut taken = 0;
        for document in &documents {
            let done: Value = session.post("import/document", document).await?;
            taken += u32::from(done["state"] == "stored");
        }
        let sum = format!("{} zips ({}) and {taken} documents imported", wanted.len(), size(bytes));
        print(&format!("{sum}; {there} zips were here already\n"));
        Ok(0)
    })
}

/// A part of a file in chunks.
fn part(file: Arc<File>, offset: u64, len: u64) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((file, offset, len), |(file, offset, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
        let reader = file.clone();
        let read = move || {
            let mut buf = vec![0; want];
            reader.read_exact_at(&mut buf, offset).map(|()| buf)
        };
        let buf = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
        Ok(Some((Bytes::from(buf), (file, offset + want as u64, left - want as u64))))
    })
}
