//! The work itself: lists first, then every version that they and the wishes name, a few at a time.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    client::{FetchFailure, Kind, WarmTarget},
    locked::Locked,
    package_spec::{PackageSpec, RawName},
    quota_gate::{QuotaGate, Wait},
    reporter::Reporter,
    select::{Choice, Chosen, Limits, YOUNG, choose},
};

/// How often something is asked for again that failed without a word on when to come again.
const RETRIES: u32 = 3;
/// How often one may be told to come again later.
const TOLD: u32 = 50;

/// How the work is done.
#[derive(Debug)]
pub(super) struct Options {
    /// Which versions are wanted after all.
    pub(super) limits: Limits,
    /// How many at a time.
    pub(super) jobs: usize,
    /// Longest single wait for an upstream's limit.
    pub(super) longest_wait: Duration,
    /// Only say what would be done.
    pub(super) dry: bool,
}

/// Everything that warming needs. It runs on one task.
pub(super) struct Warmer<'w, M> {
    mirror: M,
    show: &'w Reporter,
    options: &'w Options,
    pace: QuotaGate,
    /// Upstreams that were given up: nothing is tried twice there any more.
    down: RefCell<HashSet<String>>,
    /// The upstream of packages that name none, as soon as an answer has told.
    default_upstream: RefCell<String>,
    /// What was stored: its name, and what the mirror is asked for it by.
    held: RefCell<Vec<(String, RawName, String)>>,
    failed: Cell<u32>,
    unreachable: Cell<u32>,
}

/// One version to fetch.
struct Item {
    package: RawName,
    upstream: String,
    chosen: Chosen,
    locked: Option<Locked>,
}

impl Item {
    fn name(&self) -> String {
        format!("{}@{}", self.package, self.chosen.version)
    }
}

/// What came of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything is there.
    Complete,
    /// Something is not.
    Incomplete,
    /// What is not there is so because nobody could be reached.
    Unreachable,
}

impl<'w, M: WarmTarget> Warmer<'w, M> {
    pub(super) fn new(mirror: M, show: &'w Reporter, options: &'w Options) -> Self {
        Self {
            mirror,
            show,
            options,
            pace: QuotaGate::default(),
            down: RefCell::default(),
            default_upstream: RefCell::default(),
            held: RefCell::default(),
            failed: Cell::default(),
            unreachable: Cell::default(),
        }
    }

    /// Fulfils the wishes as far as possible. Dropping it stops it: what is stored stays.
    pub(super) async fn run(&self, wishes: Vec<PackageSpec>) -> Outcome {
        let mut packages: BTreeMap<String, (RawName, Vec<PackageSpec>)> = BTreeMap::new();
        for wish in wishes {
            let place = packages.entry(wish.package.as_str().to_ascii_lowercase());
            let (_, wishes) = place.or_insert_with(|| (wish.package.clone(), Vec::new()));
            if !wishes.contains(&wish) {
                wishes.push(wish);
            }
        }
        let packages = packages.into_values().map(|(package, wishes)| self.package(package, wishes));
        let items: Vec<Vec<Item>> = stream::iter(packages).buffered(self.options.jobs).collect().await;
        let items: Vec<Item> = items.into_iter().flatten().collect();
        self.show.planned(items.len());
        let fetched = stream::iter(items).map(|item| self.item(item)).buffer_unordered(self.options.jobs);
        let again: Vec<Option<(Item, FetchFailure)>> = fetched.collect().await;
        // What failed among others is tried once more alone: nobody competes for what the upstream still manages.
        for (item, trouble) in again.into_iter().flatten() {
            if self.down.borrow().contains(&item.upstream) {
                self.fail(&item.name(), &trouble);
            } else if let Some((item, trouble)) = self.item(item).await {
                self.fail(&item.name(), &trouble);
            }
        }
        self.look_again().await;
        match (self.failed.get(), self.unreachable.get()) {
            (0, _) => Outcome::Complete,
            (failed, unreachable) if failed == unreachable => Outcome::Unreachable,
            _ => Outcome::Incomplete,
        }
    }

    /// Names what was stored and is not any more: a disk that is too small lets the earlier go for the later.
    async fn look_again(&self) {
        let lost = async |(what, package, version): (String, RawName, String)| {
            (self.mirror.lost(&package, &version).await, what)
        };
        let held = stream::iter(self.held.take()).map(lost).buffered(self.options.jobs);
        held.for_each(async |(lost, what)| match lost {
            Ok(None) => {}
            Ok(Some(limit)) => {
                let why = format!("what came later took its room: disk.limit is {limit}; raise it, or warm fewer");
                self.fail(&what, &FetchFailure::new(Kind::Refused, why));
            }
            Err(trouble) => self.fail(&what, &trouble),
        })
        .await;
    }

    /// Has a package's lists stored and chooses among its releases.
    async fn package(&self, package: RawName, wishes: Vec<PackageSpec>) -> Vec<Item> {
        if self.options.limits.exclude.iter().any(|pattern| pattern.whole(&package)) {
            self.show.skip(package.as_str(), "excluded");
            return Vec::new();
        }
        let guess = self.upstream_of(&package);
        let lists = match self.patiently(&guess, true, async || self.mirror.lists(&package).await).await {
            Ok(lists) => lists,
            Err(trouble) => {
                self.fail(package.as_str(), &trouble);
                return Vec::new();
            }
        };
        let upstream = lists.allowance.map_or(guess, |allowance| {
            self.pace.note(&allowance);
            if !package.as_str().contains(':') {
                self.default_upstream.borrow_mut().clone_from(&allowance.upstream);
            }
            allowance.upstream
        });
        let mut items = Vec::<Item>::new();
        let mut seen = HashSet::new();
        for wish in wishes {
            match choose(&wish, &lists.releases, lists.latest.as_deref(), &self.options.limits) {
                Ok(Choice { chosen, skipped }) => {
                    for (version, why) in skipped {
                        self.show.skip(&format!("{package}@{version}"), why);
                    }
                    let new = chosen.into_iter().filter(|chosen| seen.insert(chosen.version.clone()));
                    let item = |chosen| {
                        let package = package.clone();
                        let upstream = upstream.clone();
                        Item { package, upstream, chosen, locked: wish.locked.clone() }
                    };
                    items.extend(new.map(item));
                }
                Err(why) => {
                    let versions = wish.versions.map(|versions| format!("@{}", versions.text)).unwrap_or_default();
                    self.fail(&format!("{package}{versions}"), &FetchFailure::new(Kind::Missing, why));
                }
            }
        }
        items
    }

    /// Fetches one version. Hands it back where another attempt may help.
    async fn item(&self, item: Item) -> Option<(Item, FetchFailure)> {
        let Item { package, upstream, chosen, locked } = &item;
        let what = item.name();
        if let Some(limit) = chosen.seen_by
            && self.mirror.first_seen(package, &chosen.version).await.is_none_or(|seen| seen > limit)
        {
            self.show.skip(&what, YOUNG);
            return None;
        }
        if self.options.dry {
            self.show.would(&what, chosen.stored, chosen.len);
            return None;
        }
        // What a list names is a tag, whatever else has that name; so is what was one when it was locked.
        let is_tag = chosen.listed || locked.as_ref().is_some_and(|locked| locked.tag);
        let version = if is_tag { format!("refs/tags/{}", chosen.version) } else { chosen.version.clone() };
        let running = self.show.begin(&what, chosen.len);
        let fill = async || {
            let mut hear = |bytes, total| running.progress(bytes, total);
            self.mirror.fill(package, &version, &mut hear).await
        };
        match self.patiently(upstream, !chosen.stored, fill).await {
            Ok(stored) => {
                if let Some(allowance) = &stored.allowance {
                    self.pace.note(allowance);
                }
                let differs =
                    locked.as_ref().and_then(|locked| locked.differs(&stored.digest, stored.commit.as_deref()));
                match differs {
                    Some(why) => {
                        drop(running);
                        self.fail(&what, &FetchFailure::new(Kind::Refused, why));
                    }
                    None => {
                        running.stored(&what, &stored);
                        let tag = stored.tag.map(|tag| format!("refs/tags/{tag}"));
                        let asked = tag.or(stored.commit).map(|version| (what, package.clone(), version));
                        self.held.borrow_mut().extend(asked);
                    }
                }
                None
            }
            Err(trouble) if matches!(trouble.kind, Kind::FetchFailure | Kind::Unreachable) => {
                drop(running);
                Some((item, trouble))
            }
            Err(trouble) => {
                drop(running);
                self.fail(&what, &trouble);
                None
            }
        }
    }

    /// Asks until there is an answer or no hope; waits where the upstream wants it.
    async fn patiently<T>(
        &self,
        upstream: &str,
        costs: bool,
        ask: impl AsyncFn() -> Result<T, FetchFailure>,
    ) -> Result<T, FetchFailure> {
        let mut tries = 0;
        let mut told = 0;
        loop {
            while costs && let Some(wait) = self.pace.ask(upstream, self.options.longest_wait) {
                let left = wait.remaining.unwrap_or_default();
                let why = format!("it allows {left} more requests until then, and clients need them");
                self.wait(upstream, wait, &why).await;
            }
            let answer = ask().await;
            if costs {
                self.pace.done(upstream);
            }
            let mut trouble = match answer {
                Ok(value) => {
                    self.down.borrow_mut().remove(upstream);
                    return Ok(value);
                }
                Err(trouble) => trouble,
            };
            if let Some(allowance) = &trouble.allowance {
                self.pace.note(allowance);
            }
            let unreachable = trouble.kind == Kind::Unreachable;
            let given_up = unreachable && self.down.borrow().contains(upstream);
            if matches!(trouble.kind, Kind::Missing | Kind::Refused) || given_up {
                return Err(trouble);
            }
            if let Some(wait) = trouble.retry_after {
                told += 1;
                if wait > self.options.longest_wait {
                    trouble.reason += ", which is longer than --max-wait";
                    return Err(trouble);
                }
                if told > TOLD {
                    return Err(trouble);
                }
                self.wait(upstream, self.pace.told(upstream, wait), &trouble.reason).await;
                continue;
            }
            tries += 1;
            if tries > RETRIES {
                if unreachable {
                    self.down.borrow_mut().insert(upstream.to_owned());
                }
                return Err(trouble);
            }
            sleep(Duration::from_secs(tries.into())).await;
        }
    }

    async fn wait(&self, upstream: &str, wait: Wait, why: &str) {
        if wait.first {
            let left = wait.until.saturating_duration_since(Instant::now());
            let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            // By its plain routes a mirror does not tell which upstream it asks.
            self.show.wait(if upstream.is_empty() { "the mirror" } else { upstream }, seconds, why);
        }
        sleep_until(wait.until).await;
    }

    fn fail(&self, what: &str, trouble: &FetchFailure) {
        self.failed.set(self.failed.get() + 1);
        if trouble.kind == Kind::Unreachable {
            self.unreachable.set(self.unreachable.get() + 1);
        }
        self.show.fail(what, &trouble.reason);
    }

    fn upstream_of(&self, package: &RawName) -> String {
        match package.as_str().split_once(':') {
            Some((upstream, _)) => upstream.to_owned(),
            None => self.default_upstream.borrow().clone(),
        }
    }
}

#[cfg(test)]
mod tests;
