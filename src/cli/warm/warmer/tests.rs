//! The warmer over a scripted mirror, in paused time.

use jiff::Timestamp;

use super::*;
use crate::{
    admin_api::{FailureCode, FilledArchive, ReleaseRow, UpstreamQuota, WarmedLists},
    cli::warm::{client::ProgressFn, quota_gate::RESERVED_REQUESTS},
    entry::Digest,
};

const QUOTA_WINDOW: Duration = Duration::from_secs(3600);

/// A mirror whose upstream has a quota for each window and reports it with every answer.
struct ScriptedMirror {
    versions: usize,
    quota: u64,
    /// Requests of each window, and when it ends.
    windows: RefCell<Vec<(u64, Instant)>>,
    refused: Cell<u64>,
    in_flight: Cell<usize>,
    max_in_flight: Cell<usize>,
}

impl ScriptedMirror {
    fn new(versions: usize, quota: u64) -> Self {
        let windows = RefCell::default();
        let in_flight = Cell::default();
        Self { versions, quota, windows, refused: Cell::default(), in_flight, max_in_flight: Cell::default() }
    }

    /// One request to the upstream, which takes a while.
    async fn request(&self) -> Result<UpstreamQuota, FetchFailure> {
        let (spent, until) = {
            let mut windows = self.windows.borrow_mut();
            let now = Instant::now();
            if windows.last().is_none_or(|(_, until)| *until <= now) {
                windows.push((0, now + QUOTA_WINDOW));
            }
            let last = windows.last_mut().expect("one");
            last.0 += 1;
            *last
        };
        self.in_flight.set(self.in_flight.get() + 1);
        self.max_in_flight.set(self.max_in_flight.get().max(self.in_flight.get()));
        sleep(Duration::from_millis(700)).await;
        self.in_flight.set(self.in_flight.get() - 1);
        let reset_in = until.saturating_duration_since(Instant::now()).as_secs();
        let remaining = self.quota.saturating_sub(spent);
        let quota = UpstreamQuota { upstream: "github".into(), remaining: Some(remaining), reset_in: Some(reset_in) };
        if spent <= self.quota {
            return Ok(quota);
        }
        self.refused.set(self.refused.get() + 1);
        let retry_after = Some(Duration::from_secs(reset_in + 1));
        let reason = "github limits the mirror's requests".into();
        let code = Some(FailureCode::UpstreamThrottled);
        Err(FetchFailure { reason, class: RetryClass::Transient, code, retry_after, quota: Some(quota) })
    }
}

impl WarmTarget for &ScriptedMirror {
    async fn store_lists(&self, _: &RawName, _: DialectName) -> Result<WarmedLists, FetchFailure> {
        let quota = self.request().await?;
        let listed = |n| ReleaseRow {
            tag: format!("v1.{n}.0"),
            created_at: None,
            published_at: None,
            prerelease: false,
            stored: false,
            len: None,
        };
        Ok(WarmedLists {
            releases: (0..self.versions).map(listed).collect(),
            latest: None,
            quota: Some(quota),
            package: None,
        })
    }

    async fn first_seen(&self, _: &RawName, _: &str) -> Option<Timestamp> {
        None
    }

    async fn stored_state(&self, _: &RawName, _: &str) -> Result<Option<StoredState>, FetchFailure> {
        Ok(None)
    }

    async fn fill(&self, _: &RawName, _: &str, _: ProgressFn<'_>) -> Result<FilledArchive, FetchFailure> {
        let quota = Some(self.request().await?);
        Ok(FilledArchive { digest: Digest([0; 32]), len: 0, cached: false, tag: None, commit: None, quota })
    }

    async fn flat_digest(&self, _: &RawName, _: &str) -> Option<Digest> {
        None
    }
}

async fn warm(scripted: &ScriptedMirror, jobs: usize, max_wait: Duration) -> (WarmOutcome, Vec<String>, Duration) {
    let reporter = Reporter::recorded();
    let begun = Instant::now();
    let options = WarmOptions { limits: VersionLimits::default(), jobs, max_wait, dry_run: false, required: None };
    let specs = vec!["devsapp/fc3@all".parse().expect("a package spec")];
    let outcome = Warmer::new(scripted, &reporter, &options).run(specs).await;
    (outcome, reporter.lines(), begun.elapsed())
}

fn waits(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| line.starts_with("waiting")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_warmer_leaves_the_reserve_and_announces_the_wait_for_each_reset() {
    for jobs in [1, 4, 64] {
        // The list and 4 zips fit into the first hour, 5 zips into each further one.
        let scripted = ScriptedMirror::new(14, RESERVED_REQUESTS + 5);
        let (outcome, lines, took) = warm(&scripted, jobs, QUOTA_WINDOW * 2).await;
        assert_eq!((outcome, scripted.refused.get()), (WarmOutcome::Complete, 0), "{jobs}: {lines:?}");
        let spent: Vec<u64> = scripted.windows.borrow().iter().map(|(spent, _)| *spent).collect();
        assert!(spent.iter().all(|spent| *spent <= 5) && spent.iter().sum::<u64>() == 15, "{jobs}: {spent:?}");
        let waits = waits(&lines);
        assert_eq!(waits.len(), 2, "{jobs}: one for each reset: {lines:?}");
        let first =
            format!("for github: it allows {RESERVED_REQUESTS} more requests until then, and clients need them");
        assert!(waits.iter().all(|line| line.ends_with(&first)), "{waits:?}");
        let told: u64 = waits[0].split(' ').nth(1).and_then(|text| text.parse().ok()).expect("seconds");
        assert!((3590..=3602).contains(&told), "{waits:?}");
        assert!(took > QUOTA_WINDOW * 2 && took < QUOTA_WINDOW * 2 + Duration::from_secs(60), "{jobs}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_waited_for_without_a_known_quota() {
    // The list takes the only request.
    let scripted = ScriptedMirror::new(1, 1);
    let (outcome, lines, took) = warm(&scripted, 4, QUOTA_WINDOW * 2).await;
    assert_eq!((outcome, waits(&lines).len()), (WarmOutcome::Complete, 1), "{lines:?}");
    assert!(took > QUOTA_WINDOW, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_limit_is_a_failure() {
    let scripted = ScriptedMirror::new(3, 1);
    let (outcome, lines, took) = warm(&scripted, 2, Duration::from_secs(60)).await;
    assert_eq!((outcome, waits(&lines).len()), (WarmOutcome::Incomplete, 0), "{lines:?}");
    assert!(lines.iter().filter(|line| line.contains("longer than --max-wait")).count() == 3, "{lines:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_than_jobs_are_in_flight() {
    let scripted = ScriptedMirror::new(30, 5000);
    let (outcome, _, _) = warm(&scripted, 3, QUOTA_WINDOW).await;
    assert_eq!((outcome, scripted.max_in_flight.get()), (WarmOutcome::Complete, 3));
}
