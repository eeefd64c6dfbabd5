//! The work of warming: the lists of all packages first, then every selected version, a few at a time.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    client::{FetchFailure, RetryClass, WarmTarget},
    package_spec::{LockedContent, PackageSpec, RawName},
    quota_gate::{QuotaGate, QuotaWait},
    reporter::Reporter,
    requirements::Requirements,
    select::{ChosenVersion, TOO_YOUNG, VersionChoice, VersionLimits, choose},
};
use crate::{
    admin_api::{FilledArchive, StoredState},
    package::{DialectName, NameForm},
    value::ByteSize,
};

/// Most attempts after a failure without a time to retry after.
const MAX_RETRIES: u32 = 3;
/// Most waits for one request because of a time to retry after.
const MAX_RETRY_WAITS: u32 = 50;

/// How the work is done.
#[derive(Debug)]
pub(super) struct WarmOptions {
    /// Which of the selected versions are left out.
    pub(super) limits: VersionLimits,
    /// The most requests at a time.
    pub(super) jobs: usize,
    /// Longest single wait for an upstream's quota.
    pub(super) max_wait: Duration,
    /// Only report what would be fetched.
    pub(super) dry_run: bool,
    /// Adds the packages that others need; `None` without `--with-required`.
    pub(super) required: Option<Requirements>,
}

/// A package, what is to be fetched of it, and why.
struct WarmGroup {
    package: RawName,
    dialect: DialectName,
    specs: Vec<PackageSpec>,
    /// The package that needs this one; `None` for a package that was asked for.
    needed_by: Option<RawName>,
}

/// What is to be fetched of a package, and what the package needs.
#[derive(Default)]
struct SelectedItems {
    items: Vec<WarmItem>,
    required: Vec<WarmGroup>,
}

/// One run of `warm`. It runs on one task.
pub(super) struct Warmer<'w, T> {
    target: T,
    reporter: &'w Reporter,
    options: &'w WarmOptions,
    quota_gate: QuotaGate,
    /// Upstreams that stayed unreachable after all attempts: further requests to them are tried once.
    unreachable_upstreams: RefCell<HashSet<String>>,
    /// The upstream of packages that name none, by the form of their names; none until an answer reports it.
    usual_upstreams: RefCell<HashMap<NameForm, String>>,
    stored: RefCell<Vec<StoredVersion>>,
    failed: Cell<u32>,
    unreachable: Cell<u32>,
}

/// A version that was stored, and what the mirror is asked about it.
struct StoredVersion {
    what: String,
    package: RawName,
    version: String,
}

/// One version to fetch.
struct WarmItem {
    package: RawName,
    /// The package at its source, where that is known: what the mirror is asked for.
    source: RawName,
    upstream: String,
    chosen: ChosenVersion,
    locked: Option<LockedContent>,
}

impl WarmItem {
    fn name(&self) -> String {
        format!("{}@{}", self.package, self.chosen.version)
    }
}

/// What a request to the mirror may cost its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestCost {
    /// A part of the quota.
    Quota,
    /// Nothing: the mirror's cache answers it.
    Nothing,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WarmOutcome {
    /// Everything is stored.
    Complete,
    /// Something is not.
    Incomplete,
    /// Something is not, and each time because the upstream or the mirror cannot be reached.
    Unreachable,
}

impl<'w, T: WarmTarget> Warmer<'w, T> {
    pub(super) fn new(target: T, reporter: &'w Reporter, options: &'w WarmOptions) -> Self {
        Self {
            target,
            reporter,
            options,
            quota_gate: QuotaGate::default(),
            unreachable_upstreams: RefCell::default(),
            usual_upstreams: RefCell::default(),
            stored: RefCell::default(),
            failed: Cell::default(),
            unreachable: Cell::default(),
        }
    }

    /// Stores what the specs select, as far as possible. Dropping the future stops it; what is stored stays.
    pub(super) async fn run(&self, specs: Vec<PackageSpec>) -> WarmOutcome {
        let items = self.select_all(specs).await;
        self.reporter.planned(items.len());
        let fetched = stream::iter(items).map(|item| self.fetch(item)).buffer_unordered(self.options.jobs);
        let again: Vec<Option<(WarmItem, FetchFailure)>> = fetched.collect().await;
        // Tried once more, one after the other: alone, a request may succeed that failed among concurrent ones.
        for (item, failure) in again.into_iter().flatten() {
            if self.unreachable_upstreams.borrow().contains(&item.upstream) {
                self.fail(&item.name(), &failure);
            } else if let Some((item, failure)) = self.fetch(item).await {
                self.fail(&item.name(), &failure);
            }
        }
        self.report_evicted().await;
        match (self.failed.get(), self.unreachable.get()) {
            (0, _) => WarmOutcome::Complete,
            (failed, unreachable) if failed == unreachable => WarmOutcome::Unreachable,
            _ => WarmOutcome::Incomplete,
        }
    }

    /// Stores the lists of all packages, then of those that they need, each once.
    async fn select_all(&self, specs: Vec<PackageSpec>) -> Vec<WarmItem> {
        let mut groups: BTreeMap<(String, DialectName), WarmGroup> = BTreeMap::new();
        for spec in specs {
            let PackageSpec { dialect, .. } = spec;
            let package = spec.package.clone();
            let new = || WarmGroup { package, dialect, specs: Vec::new(), needed_by: None };
            let WarmGroup { specs, .. } = groups.entry((spec.package.folded(), dialect)).or_insert_with(new);
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        let mut known: HashSet<String> = groups.keys().map(|(name, _)| name.clone()).collect();
        let mut items = Vec::new();
        while !groups.is_empty() {
            let selected = std::mem::take(&mut groups).into_values().map(|group| self.select_items(group));
            let selected: Vec<SelectedItems> = stream::iter(selected).buffered(self.options.jobs).collect().await;
            for SelectedItems { items: chosen, required } in selected {
                items.extend(chosen);
                let new = required.into_iter().filter(|group| known.insert(group.package.folded()));
                groups.extend(new.map(|group| ((group.package.folded(), group.dialect), group)).collect::<Vec<_>>());
            }
        }
        items
    }

    /// Reports versions that were stored and are no longer: later ones evict earlier ones from a disk that is too small.
    async fn report_evicted(&self) {
        let check = async |stored: StoredVersion| {
            (self.target.stored_state(&stored.package, &stored.version).await, stored.what)
        };
        let checked = stream::iter(self.stored.take()).map(check).buffered(self.options.jobs);
        checked
            .for_each(async |(state, what)| match state {
                Ok(Some(StoredState { stored: false, limit })) => {
                    let limit = ByteSize(limit);
                    let why = format!("later downloads evicted it: disk.limit is {limit}; raise it, or warm fewer");
                    self.fail(&what, &FetchFailure::new(RetryClass::Refused, why));
                }
                Ok(_) => {}
                Err(failure) => self.fail(&what, &failure),
            })
            .await;
    }

    /// Stores the lists of a package and selects among its releases.
    async fn select_items(&self, group: WarmGroup) -> SelectedItems {
        let WarmGroup { package, dialect, specs, needed_by } = group;
        if self.options.limits.exclude.iter().any(|pattern| pattern.matches_package(&package)) {
            self.reporter.skipped(package.as_str(), "excluded");
            return SelectedItems::default();
        }
        let guess = self.upstream_of(&package);
        let lists = match self
            .with_retries(&guess, RequestCost::Quota, async || self.target.store_lists(&package, dialect).await)
            .await
        {
            Ok(lists) => lists,
            Err(mut failure) => {
                if let Some(dependent) = needed_by {
                    failure.reason += &format!(" ({dependent} needs it)");
                }
                self.fail(package.as_str(), &failure);
                return SelectedItems::default();
            }
        };
        let required = self.options.required.iter().flat_map(|table| table.of(&package, lists.package.as_deref()));
        let required = required.map(|name| WarmGroup {
            package: name.clone(),
            dialect,
            specs: vec![PackageSpec::newest(name)],
            needed_by: Some(package.clone()),
        });
        let required: Vec<WarmGroup> = required.collect();
        let upstream = lists.quota.map_or(guess, |quota| {
            self.quota_gate.record(&quota);
            if !package.as_str().contains(':') {
                self.usual_upstreams.borrow_mut().insert(package.form(), quota.upstream.clone());
            }
            quota.upstream
        });
        let source = lists.package.map_or_else(|| package.clone(), RawName::of_checked);
        let mut items = Vec::<WarmItem>::new();
        let mut seen = HashSet::new();
        for spec in specs {
            match choose(&spec, &lists.releases, lists.latest.as_deref(), &self.options.limits) {
                Ok(VersionChoice { chosen, skipped }) => {
                    for (version, why) in skipped {
                        self.reporter.skipped(&format!("{package}@{version}"), why);
                    }
                    let new = chosen.into_iter().filter(|chosen| seen.insert(chosen.version.clone()));
                    items.extend(new.map(|chosen| WarmItem {
                        package: package.clone(),
                        source: source.clone(),
                        upstream: upstream.clone(),
                        chosen,
                        locked: spec.locked.clone(),
                    }));
                }
                Err(why) => {
                    let versions = spec.versions.map(|versions| format!("@{}", versions.text)).unwrap_or_default();
                    let failure = FetchFailure::new(RetryClass::Missing, why.to_string());
                    self.fail(&format!("{package}{versions}"), &failure);
                }
            }
        }
        SelectedItems { items, required }
    }

    /// Fetches one version. Returns it with its failure where another attempt may help.
    async fn fetch(&self, item: WarmItem) -> Option<(WarmItem, FetchFailure)> {
        let WarmItem { source, upstream, chosen, locked, .. } = &item;
        let what = item.name();
        if let Some(limit) = chosen.seen_by
            && self.target.first_seen(source, &chosen.version).await.is_none_or(|seen| seen > limit)
        {
            self.reporter.skipped(&what, TOO_YOUNG);
            return None;
        }
        if self.options.dry_run {
            self.reporter.dry_run(&what, chosen.stored, chosen.len);
            return None;
        }
        // A listed or locked tag is requested as a tag: a branch or commit may have the same name.
        let is_tag = chosen.listed || locked.as_ref().is_some_and(|locked| locked.tag);
        let version = if is_tag { format!("refs/tags/{}", chosen.version) } else { chosen.version.clone() };
        let task = self.reporter.started(&what, chosen.len);
        let fill = async || {
            let mut progress = |bytes, total| task.progress(bytes, total);
            self.target.fill(source, &version, &mut progress).await
        };
        let cost = if chosen.stored { RequestCost::Nothing } else { RequestCost::Quota };
        match self.with_retries(upstream, cost, fill).await {
            Ok(archive) => {
                if let Some(quota) = &archive.quota {
                    self.quota_gate.record(quota);
                }
                match self.difference(&item, &version, &archive).await {
                    Some(why) => {
                        drop(task);
                        self.fail(&what, &FetchFailure::new(RetryClass::Refused, why));
                    }
                    None => {
                        task.stored(&what, &archive);
                        let tag = archive.tag.map(|tag| format!("refs/tags/{tag}"));
                        let version = tag.or(archive.commit);
                        let stored = version.map(|version| StoredVersion { what, package: source.clone(), version });
                        self.stored.borrow_mut().extend(stored);
                    }
                }
                None
            }
            Err(failure) if matches!(failure.class, RetryClass::Transient | RetryClass::Unreachable) => {
                drop(task);
                Some((item, failure))
            }
            Err(failure) => {
                drop(task);
                self.fail(&what, &failure);
                None
            }
        }
    }

    /// How a filled zip differs from what is locked, if it does.
    async fn difference(&self, item: &WarmItem, version: &str, filled: &FilledArchive) -> Option<String> {
        let locked = item.locked.as_ref()?;
        let commit = filled.commit.as_deref();
        let difference = locked.difference(filled.digest, commit)?;
        match self.target.flat_digest(&item.source, version).await {
            Some(flat) => locked.difference(flat, commit).map(|_| difference),
            None => Some(difference),
        }
    }

    /// Sends a request until it succeeds or no further attempt can help, and waits where the upstream demands it.
    async fn with_retries<V>(
        &self,
        upstream: &str,
        cost: RequestCost,
        request: impl AsyncFn() -> Result<V, FetchFailure>,
    ) -> Result<V, FetchFailure> {
        let costs_quota = cost == RequestCost::Quota;
        let mut retries = 0;
        let mut waits = 0;
        loop {
            while costs_quota && let Some(wait) = self.quota_gate.enter(upstream, self.options.max_wait) {
                let left = wait.remaining.unwrap_or_default();
                let why = format!("it allows {left} more requests until then, and clients need them");
                self.wait(upstream, wait, &why).await;
            }
            let answer = request().await;
            if costs_quota {
                self.quota_gate.leave(upstream);
            }
            let mut failure = match answer {
                Ok(value) => {
                    self.unreachable_upstreams.borrow_mut().remove(upstream);
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            if let Some(quota) = &failure.quota {
                self.quota_gate.record(quota);
            }
            let unreachable = failure.class == RetryClass::Unreachable;
            let given_up = unreachable && self.unreachable_upstreams.borrow().contains(upstream);
            if matches!(failure.class, RetryClass::Missing | RetryClass::Refused) || given_up {
                return Err(failure);
            }
            if let Some(wait) = failure.retry_after {
                waits += 1;
                if wait > self.options.max_wait {
                    failure.reason += ", which is longer than --max-wait";
                    return Err(failure);
                }
                if waits > MAX_RETRY_WAITS {
                    return Err(failure);
                }
                self.wait(upstream, self.quota_gate.retry_after(upstream, wait), &failure.reason).await;
                continue;
            }
            retries += 1;
            if retries > MAX_RETRIES {
                if unreachable {
                    self.unreachable_upstreams.borrow_mut().insert(upstream.to_owned());
                }
                return Err(failure);
            }
            sleep(Duration::from_secs(retries.into())).await;
        }
    }

    async fn wait(&self, upstream: &str, wait: QuotaWait, why: &str) {
        if wait.first {
            let left = wait.until.saturating_duration_since(Instant::now());
            let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            // The plain routes do not report which upstream a mirror asks.
            self.reporter.waiting(if upstream.is_empty() { "the mirror" } else { upstream }, seconds, why);
        }
        sleep_until(wait.until).await;
    }

    fn fail(&self, what: &str, failure: &FetchFailure) {
        self.failed.set(self.failed.get() + 1);
        if failure.class == RetryClass::Unreachable {
            self.unreachable.set(self.unreachable.get() + 1);
        }
        self.reporter.failed(what, &failure.reason);
    }

    fn upstream_of(&self, package: &RawName) -> String {
        match package.as_str().split_once(':') {
            Some((upstream, _)) => upstream.to_owned(),
            None => self.usual_upstreams.borrow().get(&package.form()).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
