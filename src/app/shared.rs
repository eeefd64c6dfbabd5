//! The bucket that several mirrors share: opens it, and keeps the operator's blocks the same on all mirrors.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{fleet, spawn_background};
use crate::{
    cache::{BucketTier, Cache, LonePins, Removals, SharedTiers},
    clock::Clock,
    config::Config,
    hosted::zips_of_record,
    registry::{Blocks, StoredBlocks},
    shared::{
        self, Arbiter, Arbitration, Bucket, Config as SharedConfig, GarbageProgress, GarbageReport, GarbageRules,
        StateWrite,
    },
    storage::disk::Disk,
    upstream::{ca_certificates, system_roots},
};

/// Longest wait for the probe. A bucket that cannot be reached at the start is probed when it is first needed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The kind of the state that holds the blocks.
const BLOCKS_STATE: &str = "blocks";
/// How many times a state is read, merged and written before the change is given up.
pub(super) const STATE_ATTEMPTS: usize = 5;

/// Opens the bucket and the other nodes, if there are any. Probes whether the bucket arbitrates.
///
/// # Errors
/// When a section cannot be used, or the bucket does not arbitrate and the operator has not said that it need not.
pub(super) async fn open(config: &Config, dir: &Path, disk: &Disk, clock: &Clock) -> anyhow::Result<SharedTiers> {
    let Some(section) = &config.shared else { return Ok(SharedTiers::default()) };
    let bucket = Arc::new(open_bucket(section)?);
    match timeout(PROBE_TIMEOUT, bucket.probe()).await {
        Ok(Ok(Arbitration::Absent)) if section.arbiter == Arbiter::Bucket => anyhow::bail!(
            "the bucket creates an object twice, so it cannot decide which content a version has; use a service that \
             refuses If-None-Match: *, or write shared.arbiter = \"owner\" and read docs/fleet.md on what that means"
        ),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the shared bucket cannot be used at present; the mirror starts without it");
        }
        Err(_) => tracing::warn!("the shared bucket does not answer; the mirror starts without it"),
    }
    let fleet = fleet::open(config).await?;
    let decides_alone = fleet.as_ref().is_none_or(|fleet| fleet.nodes().decides_alone());
    let lone_pins = if decides_alone { LonePins::Allowed } else { LonePins::Refused };
    let bucket = BucketTier::new(bucket, section, disk.uploads(), lone_pins, clock.clone());
    let dir = dir.to_owned();
    let removals = crate::blocking::spawn_blocking(move || Removals::open(&dir)).await?;
    Ok(SharedTiers { bucket: Some(Arc::new(bucket)), fleet, removals: Some(Arc::new(removals)) })
}

fn open_bucket(section: &SharedConfig) -> anyhow::Result<Bucket> {
    let mut roots = system_roots().to_vec();
    if let Some(path) = &section.ca_file {
        let read = ca_certificates(path);
        roots.extend(read.with_context(|| format!("shared.ca_file: {}", path.display()))?);
    }
    Ok(Bucket::new(section, roots)?)
}

/// Collects the garbage of the bucket.
///
/// # Errors
/// When there is no bucket, or it cannot be used.
pub(crate) async fn collect_bucket_garbage(
    config: &Config,
    rules: &GarbageRules,
    progress: &dyn Fn(GarbageProgress),
) -> anyhow::Result<GarbageReport> {
    let section = config.shared.as_ref().context("there is no section [shared]")?;
    Ok(shared::collect_garbage(&open_bucket(section)?, rules, zips_of_record, progress).await?)
}

/// Keeps the operator's blocks the same on all mirrors of the bucket, until `background` is cancelled. Without a bucket, does
/// nothing.
pub(super) fn spawn_block_sharing(
    blocks: &Arc<Blocks>,
    cache: &Cache,
    tasks: &TaskTracker,
    background: &CancellationToken,
) {
    let Some(bucket) = cache.bucket().cloned() else { return };
    spawn_background(tasks, background, share_blocks(blocks.clone(), bucket));
}

/// Takes over the blocks of other mirrors before they are `shared.max_age` old, and writes this mirror's to the bucket at once.
/// Never returns.
async fn share_blocks(blocks: Arc<Blocks>, bucket: Arc<BucketTier>) {
    let mut listener = bucket.bucket().notices.listen(100);
    loop {
        if let Err(error) = share_blocks_once(&blocks, bucket.bucket()).await {
            tracing::debug!(%error, "the blocks of other mirrors are not known at present");
        }
        listener.due(blocks.changed()).await;
    }
}

async fn share_blocks_once(blocks: &Arc<Blocks>, bucket: &Bucket) -> anyhow::Result<()> {
    for _ in 0..STATE_ATTEMPTS {
        let read = bucket.read_state::<StoredBlocks>(BLOCKS_STATE).await?;
        let others = read.value.clone().unwrap_or_default();
        let here = blocks.clone();
        let merging = crate::blocking::spawn_blocking(move || here.merge(&others).map(|merged| (merged, others)));
        let (merged, others) = merging.await??;
        if merged == others || bucket.write_state(BLOCKS_STATE, &merged, read).await? == StateWrite::Written {
            return Ok(());
        }
    }
    anyhow::bail!("other mirrors change the blocks at the same time")
}
