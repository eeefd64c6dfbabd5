//! Faults (which requests they affect and how often), and gates that hold a response until the test opens them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tokio::sync::watch;

use super::{
    body::Answer,
    gitee, github,
    log::{Host, Seen},
    route::Route,
    wire::Refused,
};

/// Selects the requests of a fault or gate. Chained conditions must all hold.
#[derive(Clone, Default)]
pub struct Match(Vec<Condition>);

type Condition = Arc<dyn Fn(&Seen) -> bool + Send + Sync>;

impl Match {
    /// Matches every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// The path or query contains this text, still percent-encoded.
    pub fn path_contains(text: &str) -> Self {
        Self::any().containing(text)
    }

    /// The path, without the query, is exactly this.
    pub fn path(path: &str) -> Self {
        let path = path.to_owned();
        Self::any().when(move |seen| seen.path() == path)
    }

    pub fn on(host: Host) -> Self {
        Self::any().host(host)
    }

    pub fn route(route: Route) -> Self {
        Self::any().when(move |seen| seen.route() == route)
    }

    pub fn containing(self, text: &str) -> Self {
        let text = text.to_owned();
        self.when(move |seen| seen.contains(&text))
    }

    pub fn host(self, host: Host) -> Self {
        self.when(move |seen| seen.host == host)
    }

    pub fn method(self, method: &str) -> Self {
        let method = method.to_owned();
        self.when(move |seen| seen.method == method)
    }

    /// The request has this header field.
    pub fn header(self, name: &str) -> Self {
        let name = name.to_owned();
        self.when(move |seen| seen.headers.contains_key(&name))
    }

    pub fn when(mut self, fits: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Self {
        self.0.push(Arc::new(fits));
        self
    }

    fn fits(&self, seen: &Seen) -> bool {
        self.0.iter().all(|condition| condition(seen))
    }
}

/// A fault. Offsets count bytes of the response's body.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Sends this response instead of the real one.
    Status(u16, HeaderMap, Bytes),
    /// Closes the connection before the first byte of the response.
    Refuse,
    /// Sends no head until [`FaultRef::release`].
    HeadStall,
    /// Sends the bytes before the offset, then breaks the connection.
    CutAfter(u64),
    /// Ends a chunked body cleanly after this many bytes.
    EndShortAfter(u64),
    /// `Content-Length` promises so many bytes, and no more are sent.
    ShortLength(u64),
    /// Sends nothing after this many bytes until [`FaultRef::release`].
    Stall { after: u64 },
    /// Changes the byte at the offset.
    WrongBytesAt(u64),
    /// Sends pieces of `bytes` bytes, each after `pause`.
    Slow { bytes: u64, pause: Duration },
    /// Sends `200 text/html` with a page.
    Html200,
    /// Sends GitHub's secondary limit: 403 with quota left, and `Retry-After` if given.
    SecondaryRateLimit { retry_after: Option<String> },
}

impl Fault {
    /// A status with headers and body.
    pub fn status(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        Self::Status(status, headers.iter().map(pair).collect(), Bytes::copy_from_slice(body.as_ref()))
    }

    /// A string body, as the v3 registry reports errors.
    pub fn v3_error(status: u16, text: &str) -> Self {
        let body = json!({"request_id": "scripted", "body": text}).to_string();
        Self::status(status, &[("content-type", "application/json")], body)
    }

    /// An error of the simple registry.
    pub fn simple_error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"Response": {"Error": {"Code": code, "Message": message}}}).to_string();
        Self::status(status, &[("content-type", "application/json")], body)
    }

    /// Gitee's response to too many requests.
    pub fn gitee_rate_limit() -> Self {
        Self::status(403, &[("content-type", "application/json")], r#"{"message":"Rate Limit Exceeded"}"#)
    }
}

/// Opens once and stays open.
#[derive(Debug)]
pub struct Latch(watch::Sender<bool>);

impl Default for Latch {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Latch {
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn opened(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A counter whose value can be awaited.
#[derive(Debug)]
pub struct Tally(watch::Sender<usize>);

impl Default for Tally {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Tally {
    fn add(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    async fn reaches(&self, count: usize) {
        let _ = self.0.subscribe().wait_for(|now| *now >= count).await;
    }
}

#[derive(Debug)]
struct Rule {
    matched: u64,
    skip: u64,
    nth: u64,
    left: Option<u64>,
}

struct Planned {
    matches: Match,
    fault: Fault,
    rule: Mutex<Rule>,
    hits: Tally,
    reached: Tally,
    release: Latch,
    removed: AtomicU64,
}

/// A planned fault. Affects one request unless changed.
#[derive(Clone)]
pub struct FaultRef(Arc<Planned>);

impl FaultRef {
    /// Waits as long as the fault holds the head of an answer. Returns the answer that takes the place of the real one, if any.
    ///
    /// # Errors
    /// Where the connection closes without an answer.
    pub(super) async fn replace_answer(&self) -> Result<Option<Answer>, Refused> {
        Ok(match self.fault() {
            Fault::Refuse => return Err(Refused),
            Fault::HeadStall => {
                self.arrived();
                self.released().await;
                None
            }
            Fault::Status(status, headers, body) => {
                let mut answer = Answer::new(*status, "", body.clone());
                answer.headers.clone_from(headers);
                Some(answer)
            }
            Fault::Html200 => Some(gitee::page()),
            Fault::SecondaryRateLimit { retry_after } => Some(github::secondary(retry_after.as_deref())),
            _ => None,
        })
    }

    fn rule(self, change: impl FnOnce(&mut Rule)) -> Self {
        change(&mut self.0.rule.lock().unwrap());
        self
    }

    pub fn times(self, count: u64) -> Self {
        self.rule(|rule| rule.left = Some(count))
    }

    pub fn always(self) -> Self {
        self.rule(|rule| rule.left = None)
    }

    /// Lets the first `count` matching requests pass.
    pub fn skip(self, count: u64) -> Self {
        self.rule(|rule| rule.skip = count)
    }

    /// Affects every nth matching request.
    pub fn every_nth(self, nth: u64) -> Self {
        self.rule(|rule| (rule.nth, rule.left) = (nth, None))
    }

    /// Number of affected requests.
    pub fn hits(&self) -> usize {
        *self.0.hits.0.borrow()
    }

    /// Waits until an affected request has reached the point where it is held or broken.
    pub async fn reached(&self) {
        self.0.reached.reaches(1).await;
    }

    /// Releases all requests that `HeadStall` or `Stall` hold, now and later.
    pub fn release(&self) {
        self.0.release.open();
    }

    /// Affects no further request.
    pub fn remove(&self) {
        self.0.removed.store(1, Ordering::Release);
    }

    pub fn fault(&self) -> &Fault {
        &self.0.fault
    }

    pub(super) fn arrived(&self) {
        self.0.reached.add();
    }

    pub(super) async fn released(&self) {
        self.0.release.opened().await;
    }

    fn strikes(&self, seen: &Seen) -> bool {
        if self.0.removed.load(Ordering::Acquire) == 1 || !self.0.matches.fits(seen) {
            return false;
        }
        let mut rule = self.0.rule.lock().unwrap();
        rule.matched += 1;
        if rule.matched <= rule.skip || !(rule.matched - rule.skip).is_multiple_of(rule.nth) || rule.left == Some(0) {
            return false;
        }
        rule.left = rule.left.map(|left| left - 1);
        drop(rule);
        self.0.hits.add();
        true
    }
}

/// The position of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Before the head of the response.
    Head,
    /// After this many bytes of the body.
    Body(u64),
}

struct GateState {
    matches: Match,
    at: At,
    open: Latch,
    reached: Tally,
}

/// Holds every matching response at one position until opened. Dropping it opens nothing.
#[derive(Clone)]
pub struct Gate(Arc<GateState>);

impl Gate {
    pub fn open(&self) {
        self.0.open.open();
    }

    /// Waits until a response has reached the gate; returns at once if one already has.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    pub async fn reached_by(&self, answers: usize) {
        self.0.reached.reaches(answers).await;
    }

    /// Number of responses that have reached the gate.
    pub fn arrivals(&self) -> usize {
        *self.0.reached.0.borrow()
    }

    pub(super) fn at(&self) -> At {
        self.0.at
    }

    /// Counts a response and waits until the gate opens.
    pub(super) async fn pass(&self) {
        self.0.reached.add();
        self.0.open.opened().await;
    }
}

/// The faults and gates of a forge.
#[derive(Default)]
pub struct Plan {
    faults: Mutex<Vec<FaultRef>>,
    gates: Mutex<Vec<Gate>>,
}

impl Plan {
    pub fn add_fault(&self, matches: Match, fault: Fault) -> FaultRef {
        let rule = Mutex::new(Rule { matched: 0, skip: 0, nth: 1, left: Some(1) });
        let hits = Tally::default();
        let reached = Tally::default();
        let release = Latch::default();
        let fault =
            FaultRef(Arc::new(Planned { matches, fault, rule, hits, reached, release, removed: AtomicU64::new(0) }));
        self.faults.lock().unwrap().push(fault.clone());
        fault
    }

    pub fn add_gate(&self, matches: Match, at: At) -> Gate {
        let gate = Gate(Arc::new(GateState { matches, at, open: Latch::default(), reached: Tally::default() }));
        self.gates.lock().unwrap().push(gate.clone());
        gate
    }

    /// The first fault that affects this request; only that one counts it.
    pub fn fault_for(&self, seen: &Seen) -> Option<FaultRef> {
        self.faults.lock().unwrap().iter().find(|fault| fault.strikes(seen)).cloned()
    }

    pub fn gates_for(&self, seen: &Seen) -> Vec<Gate> {
        self.gates.lock().unwrap().iter().filter(|gate| gate.0.matches.fits(seen)).cloned().collect()
    }

    pub fn clear_faults(&self) {
        self.faults.lock().unwrap().clear();
    }
}
