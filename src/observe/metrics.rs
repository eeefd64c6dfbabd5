//! Figures of requests and of upstreams: counted in atomics, and read when they are asked for.
//!
//! Every combination of labels exists from the start, and no label comes from outside.

use std::{
    array, iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use thread_local::ThreadLocal;

/// The routes, as labels.
pub const ROUTE_LABELS: [&str; 19] = [
    "releases",
    "latest",
    "release",
    "release-by-id",
    "zip",
    "flat-zip",
    "metadata",
    "repository",
    "catalog",
    "menu",
    "own-packages",
    "detail",
    "health",
    "metrics",
    "admin",
    "publish",
    "delete",
    "web",
    "none",
];

/// The status codes that responses have, in order; any other one is counted as `0`.
pub const STATUS_LABELS: [u16; 28] = [
    0, 200, 201, 206, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413, 416, 421, 422, 429, 431, 451, 499, 500, 501,
    502, 503, 504, 507, 508,
];

/// How the cache answered, as labels; see [`crate::http::cache_status::CacheStatus::label`].
pub const CACHE_OUTCOMES: [&str; 7] = ["hit", "stale", "miss", "collapsed", "revalidated", "generated", "error"];

/// The causes of errors about a package, as labels: the variants of [`crate::admin_api::FailureCode`] in their order.
pub const FAILURE_CAUSES: [&str; 29] = [
    "no-package",
    "no-release",
    "no-version",
    "blocked",
    "offline",
    "upstream-unreachable",
    "upstream-timeout",
    "upstream-busy",
    "no-room",
    "pins-unavailable",
    "upstream-throttled",
    "upstream-denied",
    "upstream-status",
    "upstream-invalid",
    "too-large",
    "pin-mismatch",
    "loop",
    "refused",
    "forbidden",
    "unauthorized",
    "source-changed",
    "repository-replaced",
    "unbuilt",
    "not-conforming",
    "version-exists",
    "version-deleted",
    "name-taken",
    "being-published",
    "other",
];

/// Upper bounds of the buckets of times, seconds.
pub const TIME_BOUNDS_S: [f64; 12] = [0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// The status of a client that left before the response's header.
const CLIENT_LEFT: u16 = 499;

/// Times in buckets.
#[derive(Debug)]
pub struct TimeHistogram {
    buckets: [AtomicU64; TIME_BOUNDS_S.len() + 1],
    sum_micros: AtomicU64,
}

impl Default for TimeHistogram {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU64::new(0)), sum_micros: AtomicU64::new(0) }
    }
}

impl TimeHistogram {
    /// Counts one time.
    pub fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = TIME_BOUNDS_S.iter().position(|bound| seconds <= *bound).unwrap_or(TIME_BOUNDS_S.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The figures at present.
    pub fn read(&self) -> TimeTotals {
        let mut totals = TimeTotals::default();
        totals.add(self);
        totals
    }
}

/// The figures of one or more [`TimeHistogram`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeTotals {
    /// The count of each bucket of [`TIME_BOUNDS_S`]; the last one has no bound.
    pub buckets: [u64; TIME_BOUNDS_S.len() + 1],
    sum_micros: u64,
}

impl TimeTotals {
    /// The sum of the times, seconds.
    pub fn sum_seconds(&self) -> f64 {
        // Exact up to 285 years.
        #[expect(clippy::cast_precision_loss, reason = "a sum of times is shown with the precision of a float")]
        let sum = self.sum_micros as f64 / 1e6;
        sum
    }

    fn add(&mut self, times: &TimeHistogram) {
        add_each(&mut self.buckets, &times.buckets);
        self.sum_micros = self.sum_micros.wrapping_add(times.sum_micros.load(Ordering::Relaxed));
    }
}

fn add_each(totals: &mut [u64], counters: &[AtomicU64]) {
    for (total, counter) in iter::zip(totals, counters) {
        *total = total.wrapping_add(counter.load(Ordering::Relaxed));
    }
}

/// The counters of one route in one thread.
#[derive(Debug)]
struct RouteCounters {
    statuses: [AtomicU64; STATUS_LABELS.len()],
    outcomes: [AtomicU64; CACHE_OUTCOMES.len()],
    bytes: AtomicU64,
    head: TimeHistogram,
    whole: TimeHistogram,
}

impl Default for RouteCounters {
    fn default() -> Self {
        Self {
            statuses: array::from_fn(|_| AtomicU64::new(0)),
            outcomes: array::from_fn(|_| AtomicU64::new(0)),
            bytes: AtomicU64::new(0),
            head: TimeHistogram::default(),
            whole: TimeHistogram::default(),
        }
    }
}

/// The figures of one route in all threads.
#[derive(Debug, Default)]
pub struct RouteTotals {
    /// The responses by [`STATUS_LABELS`].
    pub statuses: [u64; STATUS_LABELS.len()],
    /// The lookups by [`CACHE_OUTCOMES`].
    pub outcomes: [u64; CACHE_OUTCOMES.len()],
    /// Bytes of bodies that were passed to connections.
    pub bytes: u64,
    /// From a request's header to the response's.
    pub head: TimeTotals,
    /// From a request's header to the end of the response.
    pub whole: TimeTotals,
}

impl RouteTotals {
    fn add(&mut self, route: &RouteCounters) {
        add_each(&mut self.statuses, &route.statuses);
        add_each(&mut self.outcomes, &route.outcomes);
        self.bytes = self.bytes.wrapping_add(route.bytes.load(Ordering::Relaxed));
        self.head.add(&route.head);
        self.whole.add(&route.whole);
    }
}

/// One response that has ended.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFigures {
    /// The index of its route in [`ROUTE_LABELS`].
    pub route: usize,
    /// `None`: the client left before the header.
    pub status: Option<u16>,
    /// How the cache answered; `None` where nothing was looked up.
    pub outcome: Option<&'static str>,
    /// The index of an error's cause in [`FAILURE_CAUSES`].
    pub cause: Option<usize>,
    /// Bytes of its body.
    pub bytes: u64,
    /// Time to its header.
    pub head: Option<Duration>,
    /// Time to its end.
    pub whole: Duration,
}

/// The figures of the requests of one thread.
///
/// Counters that all threads share would move between their processors with every response.
#[derive(Debug)]
pub struct ThreadMetrics {
    routes: [RouteCounters; ROUTE_LABELS.len()],
    causes: [AtomicU64; FAILURE_CAUSES.len()],
}

impl Default for ThreadMetrics {
    fn default() -> Self {
        Self { routes: array::from_fn(|_| RouteCounters::default()), causes: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl ThreadMetrics {
    /// Counts a response. Any thread may call it: the response may end in another one than it began in.
    pub fn record(&self, response: &ResponseFigures) {
        let Some(route) = self.routes.get(response.route) else { return };
        let status = response.status.unwrap_or(CLIENT_LEFT);
        let status = STATUS_LABELS.binary_search(&status).unwrap_or(0);
        route.statuses[status].fetch_add(1, Ordering::Relaxed);
        let outcome = response.outcome.and_then(|label| CACHE_OUTCOMES.iter().position(|outcome| *outcome == label));
        if let Some(outcome) = outcome {
            route.outcomes[outcome].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(cause) = response.cause.and_then(|cause| self.causes.get(cause)) {
            cause.fetch_add(1, Ordering::Relaxed);
        }
        route.bytes.fetch_add(response.bytes, Ordering::Relaxed);
        if let Some(head) = response.head {
            route.head.observe(head);
        }
        route.whole.observe(response.whole);
    }
}

/// The figures of all requests of the process: one [`ThreadMetrics`] per thread that has answered one.
///
/// A thread that has ended keeps its figures and gives its place to the next thread that begins.
#[derive(Debug, Default)]
pub struct RequestMetrics {
    threads: ThreadLocal<Arc<ThreadMetrics>>,
}

impl RequestMetrics {
    /// Those of the calling thread.
    pub fn of_this_thread(&self) -> Arc<ThreadMetrics> {
        self.threads.get_or_default().clone()
    }

    /// The figures of each route with its label, summed over all threads.
    pub fn routes(&self) -> Vec<(&'static str, RouteTotals)> {
        let mut routes: Vec<_> = ROUTE_LABELS.into_iter().map(|label| (label, RouteTotals::default())).collect();
        for thread in self.threads.iter() {
            for ((_, totals), counters) in iter::zip(&mut routes, &thread.routes) {
                totals.add(counters);
            }
        }
        routes
    }

    /// The error responses of each cause with its label, summed over all threads.
    pub fn causes(&self) -> [(&'static str, u64); FAILURE_CAUSES.len()] {
        let mut totals = [0; FAILURE_CAUSES.len()];
        for thread in self.threads.iter() {
            add_each(&mut totals, &thread.causes);
        }
        array::from_fn(|cause| (FAILURE_CAUSES[cause], totals[cause]))
    }
}

/// The figures of the requests to one upstream.
#[derive(Debug, Default)]
pub struct UpstreamMetrics {
    answered: AtomicU64,
    failed: AtomicU64,
    /// From a request to the header of its answer.
    pub times: TimeHistogram,
}

impl UpstreamMetrics {
    /// Counts an answer of the upstream, whatever it says.
    pub fn note_answer(&self, time: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.times.observe(time);
    }

    /// Counts a request without an answer, or with a server error.
    pub fn note_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were answered, and those that failed.
    pub fn counts(&self) -> [(&'static str, u64); 2] {
        [("answered", self.answered.load(Ordering::Relaxed)), ("failed", self.failed.load(Ordering::Relaxed))]
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn statuses_are_in_order_and_every_label_stands_once() {
        assert!(STATUS_LABELS.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(TIME_BOUNDS_S.windows(2).all(|pair| pair[0] < pair[1]));
        for labels in [&ROUTE_LABELS[..], &CACHE_OUTCOMES[..], &FAILURE_CAUSES[..]] {
            let distinct: std::collections::BTreeSet<_> = labels.iter().collect();
            assert_eq!(distinct.len(), labels.len());
        }
    }

    #[test]
    fn a_response_is_counted_under_its_route_status_and_outcome_whatever_its_thread() {
        let metrics = RequestMetrics::default();
        let zip = ResponseFigures {
            route: 4,
            status: Some(200),
            outcome: Some("hit"),
            cause: Some(2),
            bytes: 7,
            head: Some(Duration::from_millis(2)),
            whole: Duration::from_secs(400),
        };
        metrics.of_this_thread().record(&zip);
        metrics.of_this_thread().record(&ResponseFigures {
            status: Some(299),
            outcome: None,
            cause: None,
            head: None,
            ..zip
        });
        thread::scope(|scope| {
            scope.spawn(|| metrics.of_this_thread().record(&ResponseFigures { status: None, ..zip }));
        });
        let (label, route) = metrics.routes().swap_remove(4);
        let counted: Vec<_> = STATUS_LABELS.into_iter().zip(route.statuses).filter(|(_, count)| *count > 0).collect();
        assert_eq!((label, counted), ("zip", vec![(0, 1), (200, 1), (499, 1)]));
        assert_eq!((route.outcomes[0], route.bytes), (2, 21));
        assert_eq!(metrics.causes()[2], ("no-version", 2));
        let sum = route.head.sum_seconds();
        assert!((sum - 0.004).abs() < 1e-9 && route.head.buckets[1] == 2, "{:?}", route.head);
        assert_eq!(route.whole.buckets[TIME_BOUNDS_S.len()], 3);
    }
}
