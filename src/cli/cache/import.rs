//! `srm-mirror cache import`: what another mirror has exported is taken in, as a whole or with a word on what was not.

use std::{
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
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    ConfirmArgs,
    bundle::{self, Bundle},
    confirmed,
    table::size,
};
use crate::{
    archive::ZipVerifier,
    cli::{
        CacheArgs, FAILED, UsageError,
        admin_client::{self, AdminClient, accepted, unreachable},
        escape_terminal, print,
    },
    entry::{ExportedArchive, Key},
    value::ByteSize,
};

/// Bytes of a zip that are read at once.
const CHUNK: usize = 256 << 10;
/// So many zips are asked about at once: a request has its largest size.
const ASKED: usize = 1000;
/// What a file takes on disk is a multiple of this.
const BLOCK: u64 = 4096;

/// Checks a bundle as a whole, compares it with what was first seen here, and only then takes it in. What is stored
/// already is not sent again, so a second run goes on where a first one ended.
pub(super) fn run(place: &CacheArgs, path: &Path, force: bool, sure: &ConfirmArgs) -> anyhow::Result<u8> {
    let loaded = place.load()?;
    let archives = &loaded.config.archives;
    let verifier = ZipVerifier { max_entries: archives.max_entries, max_inflated: archives.max_inflated.0 };
    let bundle = bundle::check(path, &verifier)?;
    admin_client::run(loaded, async |session| Import { session, bundle: &bundle, path }.run(force, sure).await)
}

/// A bundle on its way into a mirror.
struct Import<'i> {
    session: &'i AdminClient,
    bundle: &'i Bundle,
    path: &'i Path,
}

impl Import<'_> {
    async fn run(&self, force: bool, sure: &ConfirmArgs) -> anyhow::Result<u8> {
        let zips = &self.bundle.zips;
        let states = self.states().await?;
        let is = |claim: &ExportedArchive, state: &str| states.get(&claim.key).is_some_and(|found| found == state);
        if let Some((claim, _)) = zips.iter().find(|(claim, _)| is(claim, "refused")) {
            let path = self.path.display();
            let key = &claim.key;
            let why =
                format!("{path}: this mirror has no place for {key}: no such upstream, a wrong name, or too large");
            return Err(UsageError(why).into());
        }
        for listed in &self.bundle.documents {
            let checked = self.session.post("import/document/check", &self.bundle.document(listed)?).await;
            checked.with_context(|| self.path.display().to_string())?;
        }
        let conflicts: Vec<&ExportedArchive> =
            zips.iter().map(|(claim, _)| claim).filter(|claim| is(claim, "conflict")).collect();
        for claim in &conflicts {
            print(&format!("conflict  {}: other content was first seen here\n", escape_terminal(claim.key.as_str())));
        }
        if !conflicts.is_empty() && !force {
            print("nothing was imported; --force replaces what was first seen here\n");
            return Ok(FAILED);
        }
        let limit = self.limit().await?;
        let need = needed(zips.iter().map(|(claim, _)| claim));
        if need > limit {
            let path = self.path.display();
            let need = size(need);
            let limit = ByteSize(limit);
            print(&format!(
                "nothing was imported: the zips of {path} take {need} and disk.limit is {limit}; raise it, or export fewer\n"
            ));
            return Ok(FAILED);
        }
        let wanted: Vec<_> = zips.iter().filter(|(claim, _)| !is(claim, "stored")).collect();
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
            self.send(claim, *offset, is(claim, "conflict")).await?;
        }
        let mut taken = 0;
        for listed in &self.bundle.documents {
            let done = self.session.post("import/document", &self.bundle.document(listed)?).await;
            let done = done.with_context(|| format!("import {}", listed.key))?;
            taken += u32::from(done["state"] == "stored");
        }
        let lost = self.lost().await?;
        let sum = format!("{} zips ({}) and {taken} documents imported", wanted.len(), size(bytes));
        print(&format!("{sum}; {there} zips were here already\n"));
        if lost > 0 {
            let limit = ByteSize(limit);
            print(&format!("{lost} of the bundle are not stored: disk.limit is {limit}; raise it, or export fewer\n"));
            return Ok(FAILED);
        }
        Ok(0)
    }

    /// What the mirror says of each zip.
    async fn states(&self) -> anyhow::Result<HashMap<Key, String>> {
        let mut states = HashMap::new();
        for part in self.bundle.zips.chunks(ASKED) {
            let claims: Vec<&ExportedArchive> = part.iter().map(|(claim, _)| claim).collect();
            let each = |line: Value| {
                let key = line["key"].as_str();
                let state = line["state"].as_str();
                states.extend(key.zip(state).map(|(key, state)| (Key::new(key), state.to_owned())));
                Ok(())
            };
            self.session.lines("import/plan", &claims, each).await?;
        }
        Ok(states)
    }

    /// How many bytes may be on disk.
    async fn limit(&self) -> anyhow::Result<u64> {
        let stats = self.session.post("stats", &json!({})).await?;
        Ok(stats["disk"]["limit"].as_u64().unwrap_or(u64::MAX))
    }

    /// Sends one zip. Other content is only replaced where a person was asked about it.
    async fn send(&self, claim: &ExportedArchive, offset: u64, force: bool) -> anyhow::Result<()> {
        let head = format!("{}\n", json!({"force": force, "claim": claim}));
        let unreadable = Arc::new(OnceLock::new());
        let zip = part(self.bundle.file.try_clone()?, offset, claim.meta.len, unreadable.clone());
        let body = reqwest::Body::wrap_stream(stream::iter([Ok(Bytes::from(head))]).chain(zip));
        let sent = self.session.request(Method::POST, "/-/import/zip").body(body).send().await;
        let done = match sent {
            Ok(answer) => accepted(answer).await.map(drop),
            Err(error) => Err(unreachable(error).into()),
        };
        if let Some(kind) = unreadable.get() {
            return Err(io::Error::from(*kind)).with_context(|| format!("cannot read {}", self.path.display()));
        }
        done.with_context(|| format!("import {}", claim.key))
    }

    /// Names what is not on disk after all, because what came after it has taken its room; how many.
    async fn lost(&self) -> anyhow::Result<usize> {
        let mut lost = 0;
        let mut name = |key: &Key| {
            lost += 1;
            print(&format!("lost  {}: what came later has taken its room\n", escape_terminal(key.as_str())));
        };
        let states = self.states().await?;
        for (claim, _) in &self.bundle.zips {
            if states.get(&claim.key).is_none_or(|state| state != "stored") {
                name(&claim.key);
            }
        }
        for listed in &self.bundle.documents {
            let state = self.session.post("import/document/check", &self.bundle.document(listed)?).await?;
            if state["state"] != "stored" {
                name(&listed.key);
            }
        }
        Ok(lost)
    }
}

/// The least that zips take on disk; what two of them share counts once.
fn needed<'c>(claims: impl Iterator<Item = &'c ExportedArchive>) -> u64 {
    let mut blobs = HashSet::new();
    let lens = claims.filter(|claim| blobs.insert(claim.meta.digest)).map(|claim| claim.meta.len);
    lens.map(|len| len.next_multiple_of(BLOCK)).sum()
}

/// A part of a file in chunks; `unreadable` hears when it cannot be read, for a sender tells only that it broke off.
fn part(
    file: File,
    offset: u64,
    len: u64,
    unreadable: Arc<OnceLock<io::ErrorKind>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((Arc::new(file), offset, len), move |(file, offset, left)| {
        let unreadable = unreadable.clone();
        async move {
            if left == 0 {
                return Ok(None);
            }
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
            let reader = file.clone();
            let read = move || {
                let mut buf = vec![0; want];
                reader.read_exact_at(&mut buf, offset).map(|()| buf)
            };
            let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten();
            let buf = read.inspect_err(|error| unreadable.set(error.kind()).unwrap_or_default())?;
            Ok(Some((Bytes::from(buf), (file, offset + want as u64, left - want as u64))))
        }
    })
}
