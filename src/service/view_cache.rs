//! The plans of views of stored zips, and their digests.

use std::{io, sync::Arc};

use sha2::{Digest as _, Sha256};

use crate::{
    archive::{
        CentralDirectory, StoredZipError, ZipFacts,
        view::{ViewError, ViewPlan, ViewSpec},
    },
    entry::Digest,
    registry::Object,
    value::{bounded_cache::BoundedCache, memory_budget::MemoryBudget},
};

/// Most bytes of cached plans, their keys included.
const MAX_PLAN_BYTES: u64 = 32 << 20;
/// Most cached digests, about 200 bytes each.
const MAX_VIEW_DIGESTS: u64 = 80_000;
/// Bytes that the cache itself needs for an entry.
const VIEW_OVERHEAD_BYTES: usize = 128;
/// Bytes of a view that are hashed at once.
const HASH_BATCH_BYTES: u64 = 1 << 20;

/// The plans of views, by the digest of their zip and their form.
pub(super) struct ViewCache {
    views: moka::future::Cache<ViewKey, Arc<CachedView>>,
    /// Digests of views. Kept longer than the plans: computing one reads the whole view.
    digests: BoundedCache<Digest, Digest>,
    memory: MemoryBudget,
}

/// A view of one zip.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ViewKey {
    zip: Digest,
    spec: ViewSpec,
}

/// How a view of a zip is made.
pub(super) enum CachedView {
    /// The zip has the form of the view.
    Stored,
    /// By a plan.
    Planned {
        plan: ViewPlan,
        /// SHA-256 of the view.
        digest: Digest,
    },
    /// The zip has no such view.
    Impossible(ViewError),
}

/// Why the view of a stored zip cannot be computed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ViewFailure {
    #[error(transparent)]
    Zip(#[from] StoredZipError),
    #[error("cannot compute the view: {0}")]
    Io(#[from] io::Error),
    #[error("cannot parse the stored facts about the zip: {0}")]
    Facts(#[from] serde_json::Error),
}

impl ViewKey {
    /// Identifies the view.
    fn digest(&self) -> Digest {
        Digest::of(format!("{} {:?}", self.zip, self.spec).as_bytes())
    }

    /// Bytes of memory that the entry of a key takes, without its value.
    fn weight(&self) -> usize {
        size_of::<Digest>() + self.spec.weight() + VIEW_OVERHEAD_BYTES
    }
}

impl CachedView {
    fn weight(&self) -> usize {
        let plan = match self {
            Self::Stored | Self::Impossible(_) => 0,
            Self::Planned { plan, .. } => plan.weight(),
        };
        plan + size_of::<Self>()
    }
}

impl ViewCache {
    /// An empty cache. Directories of zips are read within `memory`.
    pub(super) fn new(memory: MemoryBudget) -> Self {
        Self::with_limits(MAX_PLAN_BYTES, memory)
    }

    fn with_limits(max_plan_bytes: u64, memory: MemoryBudget) -> Self {
        let clamped = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let views = moka::future::Cache::builder().max_capacity(max_plan_bytes);
        Self {
            views: views
                .weigher(move |key: &ViewKey, view: &Arc<CachedView>| clamped(key.weight() + view.weight()))
                .build(),
            digests: BoundedCache::new(MAX_VIEW_DIGESTS),
            memory,
        }
    }

    /// The view of a zip. Concurrent callers share one computation, which runs to its end even if all of them are
    /// dropped.
    pub(super) async fn view(
        self: &Arc<Self>,
        object: &Object,
        spec: ViewSpec,
    ) -> Result<Arc<CachedView>, Arc<ViewFailure>> {
        let key = ViewKey { zip: object.meta.digest, spec };
        if let Some(view) = self.views.get(&key).await {
            return Ok(view);
        }
        let cache = self.clone();
        let object = object.clone();
        let task = tokio::spawn(async move {
            let compute = async {
                let cache = cache.clone();
                let key = key.clone();
                crate::blocking::spawn_blocking(move || cache.compute(&object, &key)).await.map_err(io::Error::other)?
            };
            cache.views.try_get_with_by_ref(&key, compute).await
        });
        task.await.map_err(|error| Arc::new(io::Error::other(error).into()))?
    }

    /// Computes a view. Blocks while it reads all of it, unless the view's digest is cached.
    fn compute(&self, object: &Object, key: &ViewKey) -> Result<Arc<CachedView>, ViewFailure> {
        let facts = ZipFacts::from_value(&object.meta.verified.facts)?;
        match (&key.spec, &facts.top) {
            (ViewSpec::Flat, None) | (ViewSpec::Foldered { .. }, Some(_)) => return Ok(Arc::new(CachedView::Stored)),
            _ => {}
        }
        let mut memory = self.memory.share();
        let central = {
            let read = |buf: &mut [u8], offset| object.read_exact(buf, offset);
            CentralDirectory::open(&facts, object.meta.len, &mut memory, read)?
        };
        let view = match central.view_plan(&key.spec) {
            Ok(None) => CachedView::Stored,
            Err(error) => CachedView::Impossible(error),
            Ok(Some(plan)) => {
                let digest = match self.digests.get(&key.digest()) {
                    Some(digest) => digest,
                    None => view_digest(object, &plan)?,
                };
                self.digests.insert(key.digest(), digest);
                CachedView::Planned { plan, digest }
            }
        };
        Ok(Arc::new(view))
    }
}

/// SHA-256 of a view. Computed at the first request for the view, not when the zip is verified: clients of the plain
/// zip would wait for it.
fn view_digest(object: &Object, plan: &ViewPlan) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    let mut start = 0;
    while start < plan.len() {
        let batch = plan.batch(start..plan.len().min(start + HASH_BATCH_BYTES));
        let source = batch.source();
        bytes.resize(usize::try_from(source.end - source.start).unwrap_or(usize::MAX), 0);
        object.read_exact(&mut bytes, source.start)?;
        hash = batch.pieces(&bytes).fold(hash, Sha256::chain_update);
        start = batch.range().end;
    }
    Ok(Digest(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::{
        archive::{ZipVerifier, view::TopFolder},
        entry::Meta,
        origin::{Growing, Verify},
        registry::ObjectContent,
    };

    struct CompleteBody(Bytes);

    impl Growing for CompleteBody {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.0.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
    }

    /// A verified zip with these files, in memory.
    fn object(files: &[(&str, usize)]) -> Object {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, len) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).expect("started");
            zip.write_all(&vec![b'x'; *len]).expect("written");
        }
        let bytes = Bytes::from(zip.finish().expect("finished").into_inner());
        let verifier = ZipVerifier { max_entries: 100, max_inflated: 10 << 20, memory: MemoryBudget::unlimited() };
        let verified = verifier.verify(&CompleteBody(bytes.clone())).expect("a good zip");
        let digest = Digest::of(&bytes);
        let len = bytes.len() as u64;
        let meta = Meta { digest, len, stored_at: Timestamp::UNIX_EPOCH, anonymous: true, verified };
        Object { meta: Arc::new(meta), content: ObjectContent::Memory(bytes), tier: "memory", usage: None }
    }

    fn folder(path: &str) -> ViewSpec {
        ViewSpec::Folder { path: path.parse().expect("a path"), top: None }
    }

    #[tokio::test]
    async fn each_form_of_a_zip_is_a_view_of_its_own() {
        let cache = Arc::new(ViewCache::new(MemoryBudget::unlimited()));
        let bare = object(&[("package.json", 2), ("src/a", 3_000_000)]);
        let with_top = object(&[("t/package.json", 2), ("t/src/a", 3_000_000)]);
        let foldered = |version: &str| ViewSpec::Foldered { top: TopFolder::of_version("fc3", version) };
        let mut digests = Vec::new();
        for (object, spec, is_planned) in [
            (&bare, ViewSpec::Flat, false),
            (&with_top, foldered("1"), false),
            (&with_top, ViewSpec::Flat, true),
            (&bare, foldered("1"), true),
            (&bare, foldered("2"), true),
            (&bare, folder("src"), true),
        ] {
            let view = cache.view(object, spec.clone()).await.expect("computed");
            let again = cache.view(object, spec.clone()).await.expect("computed");
            assert!(Arc::ptr_eq(&view, &again), "{spec:?} is cached");
            match &*view {
                CachedView::Planned { plan, digest } => {
                    let mut bytes = Vec::new();
                    while (bytes.len() as u64) < plan.len() {
                        let batch = plan.batch(bytes.len() as u64..plan.len());
                        let source = batch.source();
                        let read = object.read(source.start, (source.end - source.start) as usize).await.expect("read");
                        bytes.extend_from_slice(&batch.assemble(read).expect("complete"));
                    }
                    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (*digest, plan.len()), "{spec:?}");
                    digests.push(*digest);
                }
                _ => assert!(!is_planned, "{spec:?}"),
            }
        }
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 4);
        let missing = cache.view(&bare, folder("gone")).await.expect("computed");
        assert!(matches!(*missing, CachedView::Impossible(ViewError::NoSuchFolder)));
    }

    #[tokio::test]
    async fn a_damaged_zip_is_a_failure_that_is_not_cached() {
        let cache = Arc::new(ViewCache::new(MemoryBudget::unlimited()));
        let good = object(&[("t/a", 10)]);
        let ObjectContent::Memory(bytes) = &good.content else { panic!("in memory") };
        let mut damaged = bytes.to_vec();
        let last = damaged.len() - 30;
        damaged[last] ^= 1;
        let damaged = Object { content: ObjectContent::Memory(damaged.into()), ..good.clone() };
        assert!(matches!(
            cache.view(&damaged, ViewSpec::Flat).await.err().as_deref(),
            Some(ViewFailure::Zip(StoredZipError::Damaged))
        ));
        assert!(cache.view(&good, ViewSpec::Flat).await.is_ok(), "it has the same digest");
    }

    #[tokio::test]
    async fn views_stay_within_their_limit_with_the_longest_keys() {
        const LIMIT: u64 = 1 << 20;
        let cache = ViewCache::with_limits(LIMIT, MemoryBudget::unlimited());
        let key = |n: usize| {
            let path = format!("{n:06}/{}x", "x/".repeat(508));
            let top = Some(TopFolder::of_version(&"x".repeat(250), "1"));
            ViewKey { zip: Digest([7; 32]), spec: ViewSpec::Folder { path: path.parse().expect("a path"), top } }
        };
        for n in 0..2_000 {
            cache.views.insert(key(n), Arc::new(CachedView::Impossible(ViewError::NoSuchFolder))).await;
        }
        cache.views.run_pending_tasks().await;
        assert!(key(0).weight() > 1_300);
        let weight = cache.views.weighted_size();
        let entries = cache.views.entry_count();
        assert!((LIMIT / 2..=LIMIT).contains(&weight) && entries < 810, "{weight} bytes, {entries} entries");
    }
}
