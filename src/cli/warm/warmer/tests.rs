//! The worker itself against a scripted mirror, in paused time.

use jiff::Timestamp;

use super::*;
use crate::{
    cli::warm::{
        client::{Allowance, Lists, ProgressFn, Stored},
        quota_gate::RESERVE,
        select::Listed,
    },
    value::ByteSize,
};

const WINDOW: Duration = Duration::from_secs(3600);

/// A mirror whose upstream has a quota for each window, and says so with every answer.
struct Scripted {
    versions: usize,
    quota: u64,
    /// Requests of each window, and when it ends.
    windows: RefCell<Vec<(u64, Instant)>>,
    refused: Cell<u64>,
    flying: Cell<usize>,
    most: Cell<usize>,
}

impl Scripted {
    fn new(versions: usize, quota: u64) -> Self {
        let windows = RefCell::default();
        let flying = Cell::default();
        Self { versions, quota, windows, refused: Cell::default(), flying, most: Cell::default() }
    }

    /// One request to the upstream, which takes a while.
    async fn request(&self) -> Result<Allowance, FetchFailure> {
        let (spent, until) = {
            let mut windows = self.windows.borrow_mut();
            let now = Instant::now();
            if windows.last().is_none_or(|(_, until)| *until <= now) {
                windows.push((0, now + WINDOW));
            }
            let last = windows.last_mut().expect("one");
            last.0 += 1;
            *last
        };
        self.flying.set(self.flying.get() + 1);
        self.most.set(self.most.get().max(self.flying.get()));
        sleep(Duration::from_millis(700)).await;
        self.flying.set(self.flying.get() - 1);
        let reset_in = until.saturating_duration_since(Instant::now()).as_secs();
        let remaining = self.quota.saturating_sub(spent);
        let allowance =
            Allowance { upstream: "github".into(), remaining: Some(remaining), reset_in: Some(reset_in), wait: None };
        if spent <= self.quota {
            return Ok(allowance);
        }
        self.refused.set(self.refused.get() + 1);
        let retry_after = Some(Duration::from_secs(reset_in + 1));
        let reason = "github limits the mirror's requests".into();
        Err(FetchFailure { reason, kind: Kind::FetchFailure, retry_after, allowance: Some(allowance) })
    }
}

impl WarmTarget for &Scripted {
    async fn lists(&self, _: &RawName) -> Result<Lists, FetchFailure> {
        let allowance = self.request().await?;
        let listed = |n| Listed {
            tag: format!("v1.{n}.0"),
            created_at: None,
            published_at: None,
            prerelease: false,
            stored: false,
            len: None,
        };
        Ok(Lists { releases: (0..self.versions).map(listed).collect(), latest: None, allowance: Some(allowance) })
    }

    async fn first_seen(&self, _: &RawName, _: &str) -> Option<Timestamp> {
        None
    }

    async fn lost(&self, _: &RawName, _: &str) -> Result<Option<ByteSize>, FetchFailure> {
        Ok(None)
    }

    async fn fill(&self, _: &RawName, _: &str, _: ProgressFn<'_>) -> Result<Stored, FetchFailure> {
        Ok(Stored { allowance: Some(self.request().await?), ..Stored::default() })
    }
}

async fn warm(scripted: &Scripted, jobs: usize, longest_wait: Duration) -> (Outcome, Vec<String>, Duration) {
    let show = Reporter::kept();
    let begun = Instant::now();
    let options = Options { limits: Limits::default(), jobs, longest_wait, dry: false };
    let wishes = vec!["devsapp/fc3@all".parse().expect("a wish")];
    let outcome = Warmer::new(scripted, &show, &options).run(wishes).await;
    (outcome, show.said(), begun.elapsed())
}

fn waits(said: &[String]) -> Vec<&String> {
    said.iter().filter(|line| line.starts_with("waiting")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_worker_leaves_the_reserve_waits_for_each_reset_and_says_how_long() {
    for jobs in [1, 4, 64] {
        // The list and 4 zips fit into the first hour, 5 zips into each further one.
        let scripted = Scripted::new(14, RESERVE + 5);
        let (outcome, said, took) = warm(&scripted, jobs, WINDOW * 2).await;
        assert_eq!((outcome, scripted.refused.get()), (Outcome::Complete, 0), "{jobs}: {said:?}");
        let spent: Vec<u64> = scripted.windows.borrow().iter().map(|(spent, _)| *spent).collect();
        assert!(spent.iter().all(|spent| *spent <= 5) && spent.iter().sum::<u64>() == 15, "{jobs}: {spent:?}");
        let waits = waits(&said);
        assert_eq!(waits.len(), 2, "{jobs}: one for each reset: {said:?}");
        let first = format!("for github: it allows {RESERVE} more requests until then, and clients need them");
        assert!(waits.iter().all(|line| line.ends_with(&first)), "{waits:?}");
        let told: u64 = waits[0].split(' ').nth(1).and_then(|text| text.parse().ok()).expect("seconds");
        assert!((3590..=3602).contains(&told), "{waits:?}");
        assert!(took > WINDOW * 2 && took < WINDOW * 2 + Duration::from_secs(60), "{jobs}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_says_is_waited_for_even_where_nothing_was_known() {
    // The list takes the only request.
    let scripted = Scripted::new(1, 1);
    let (outcome, said, took) = warm(&scripted, 4, WINDOW * 2).await;
    assert_eq!((outcome, waits(&said).len()), (Outcome::Complete, 1), "{said:?}");
    assert!(took > WINDOW, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_longer_wait_than_allowed_is_none() {
    let scripted = Scripted::new(3, 1);
    let (outcome, said, took) = warm(&scripted, 2, Duration::from_secs(60)).await;
    assert_eq!((outcome, waits(&said).len()), (Outcome::Incomplete, 0), "{said:?}");
    assert!(said.iter().filter(|line| line.contains("longer than --max-wait")).count() == 3, "{said:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn never_more_than_jobs_at_once() {
    let scripted = Scripted::new(30, 5000);
    let (outcome, _, _) = warm(&scripted, 3, WINDOW).await;
    assert_eq!((outcome, scripted.most.get()), (Outcome::Complete, 3));
}
