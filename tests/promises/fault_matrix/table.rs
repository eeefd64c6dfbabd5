//! The table of faults: what is planned at the forge, and what a client of the mirror gets.

use std::{fmt::Write as _, pin::Pin, time::Duration};

use crate::forge::{Fault, Forge, Host, Match};

/// Size of the file in the zip.
pub(super) const ZIP_BYTES: u64 = 300_000;
/// Where a fault within a zip begins: behind the first bytes, which clients get before the fault.
const MIDDLE: u64 = 150_000;

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 200 with every byte.
    Whole,
    /// 200, and the connection is broken before the last byte.
    BrokenOff,
    /// An error with this status.
    Error(u16),
}

/// The longest time to the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// No upstream is waited for.
    None,
    /// As long as the upstream takes to fail or to answer.
    Upstream,
    Patience,
    Head,
    Idle,
    Total,
}

impl Wait {
    /// Its value in the test.
    pub(super) fn limit(self) -> Duration {
        Duration::from_millis(match self {
            Self::None | Self::Upstream => 0,
            Self::Patience => 200,
            Self::Head | Self::Idle => 400,
            Self::Total => 1500,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "at once",
            Self::Upstream => "when the upstream fails",
            Self::Patience => "`documents.patience`",
            Self::Head => "`response_timeout`",
            Self::Idle => "`idle_timeout`",
            Self::Total => "`total_timeout`",
        }
    }
}

impl Outcome {
    fn name(self) -> String {
        match self {
            Self::Whole => "200".into(),
            Self::BrokenOff => "200, broken off".into(),
            Self::Error(status) => status.to_string(),
        }
    }
}

/// The answer to one request.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) outcome: Outcome,
    pub(super) wait: Wait,
    /// Most upstream requests.
    pub(super) requests: usize,
}

type Planned<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One fault at one moment.
pub(super) struct Row {
    pub(super) fault: &'static str,
    pub(super) point: &'static str,
    /// Plans the fault.
    pub(super) plan: Box<dyn Fn(&Forge) -> Planned<'_> + Send + Sync>,
    /// The list with nothing stored.
    pub(super) list: Expected,
    /// The stale list, which is always served.
    pub(super) stale: Expected,
    /// The zip with nothing stored; `None` where a test of its own has the fault.
    pub(super) zip: Option<Expected>,
}

fn expected(outcome: Outcome, wait: Wait, requests: usize) -> Expected {
    Expected { outcome, wait, requests }
}

/// A fault in place of every response.
fn planned(fault: Fault) -> Box<dyn Fn(&Forge) -> Planned<'_> + Send + Sync> {
    Box::new(move |forge| {
        let fault = fault.clone();
        Box::pin(async move {
            forge.fault(Match::any(), fault).always();
        })
    })
}

/// A fault within bodies: of zips at the archive host, of documents at the API.
fn within(of_zip: Fault, of_document: Fault) -> Box<dyn Fn(&Forge) -> Planned<'_> + Send + Sync> {
    Box::new(move |forge| {
        let of_zip = of_zip.clone();
        let of_document = of_document.clone();
        Box::pin(async move {
            forge.fault(Match::on(Host::Archive), of_zip).always();
            forge.fault(Match::path_contains("/releases"), of_document).always();
        })
    })
}

/// The same status for documents and zips, told before a body.
fn status(fault: &'static str, code: u16, headers: &[(&str, &str)], body: &'static str, answer: u16) -> Row {
    let outcome = Outcome::Error(answer);
    Row {
        fault,
        point: "head",
        plan: planned(Fault::status(code, headers, body)),
        list: expected(outcome, Wait::Upstream, 1),
        stale: expected(Outcome::Whole, Wait::Upstream, 1),
        zip: Some(expected(outcome, Wait::Upstream, 1)),
    }
}

/// Every row.
pub(super) fn rows() -> Vec<Row> {
    use Outcome::{BrokenOff, Error, Whole};
    let json = [("content-type", "application/json")];
    let stale = |wait| expected(Whole, wait, 1);
    let at_connect = |fault, plan| Row {
        fault,
        point: "connect",
        plan,
        list: expected(Error(502), Wait::Upstream, 2),
        stale: expected(Whole, Wait::Upstream, 2),
        zip: Some(expected(Error(502), Wait::Upstream, 2)),
    };
    let down: Box<dyn Fn(&Forge) -> Planned<'_> + Send + Sync> = Box::new(|forge| Box::pin(forge.down()));
    vec![
        at_connect("refuses", down),
        at_connect("resets", planned(Fault::Refuse)),
        Row {
            fault: "hangs",
            point: "before the head",
            plan: planned(Fault::HeadStall),
            list: expected(Error(504), Wait::Head, 1),
            stale: stale(Wait::Patience),
            zip: Some(expected(Error(504), Wait::Head, 1)),
        },
        status("500", 500, &json, "{}", 502),
        status("502", 502, &json, "{}", 502),
        status("429", 429, &json, "{}", 503),
        status("403", 403, &json, r#"{"message":"no"}"#, 502),
        status("a page", 200, &[("content-type", "text/html")], "<!DOCTYPE html><p>please log in", 502),
        status("broken JSON", 200, &json, "[{\"tag_name\":", 502),
        Row {
            list: expected(Error(502), Wait::Upstream, 6),
            stale: expected(Whole, Wait::Upstream, 6),
            zip: Some(expected(Error(502), Wait::Upstream, 6)),
            ..status("redirect loop", 302, &[("location", "/repos/devsapp/fc3/releases")], "", 502)
        },
        status("redirect elsewhere", 302, &[("location", "http://192.0.2.1/x")], "", 502),
        Row {
            fault: "hangs",
            point: "body",
            plan: within(Fault::Stall { after: MIDDLE }, Fault::Stall { after: 20 }),
            list: expected(Error(504), Wait::Idle, 1),
            stale: stale(Wait::Patience),
            zip: Some(expected(BrokenOff, Wait::Upstream, 8)),
        },
        Row {
            fault: "drips",
            point: "body",
            plan: within(
                Fault::Slow { bytes: 1, pause: Duration::from_millis(50) },
                Fault::Slow { bytes: 1, pause: Duration::from_millis(50) },
            ),
            list: expected(Error(504), Wait::Total, 1),
            stale: stale(Wait::Patience),
            zip: None,
        },
        Row {
            fault: "is slow",
            point: "body",
            plan: within(
                Fault::Slow { bytes: 32_768, pause: Duration::from_millis(20) },
                Fault::Slow { bytes: 512, pause: Duration::from_millis(5) },
            ),
            list: expected(Whole, Wait::Upstream, 1),
            stale: stale(Wait::Patience),
            zip: Some(expected(Whole, Wait::Upstream, 2)),
        },
        Row {
            fault: "cuts",
            point: "body",
            plan: within(Fault::CutAfter(MIDDLE), Fault::CutAfter(20)),
            list: expected(Error(502), Wait::Upstream, 1),
            stale: stale(Wait::Upstream),
            zip: Some(expected(BrokenOff, Wait::Upstream, 8)),
        },
        Row {
            fault: "ends early",
            point: "body",
            plan: within(Fault::EndShortAfter(MIDDLE), Fault::EndShortAfter(20)),
            list: expected(Error(502), Wait::Upstream, 1),
            stale: stale(Wait::Upstream),
            zip: Some(expected(BrokenOff, Wait::Upstream, 8)),
        },
        Row {
            fault: "wrong length",
            point: "body",
            plan: within(Fault::ShortLength(MIDDLE), Fault::ShortLength(20)),
            list: expected(Error(502), Wait::Upstream, 1),
            stale: stale(Wait::Upstream),
            zip: Some(expected(BrokenOff, Wait::Upstream, 8)),
        },
        Row {
            fault: "other bytes",
            point: "after the body",
            plan: within(Fault::WrongBytesAt(MIDDLE), Fault::WrongBytesAt(0)),
            list: expected(Error(502), Wait::Upstream, 1),
            stale: stale(Wait::Upstream),
            zip: Some(expected(BrokenOff, Wait::Upstream, 2)),
        },
    ]
}

/// The table as the docs show it.
pub(super) fn markdown() -> String {
    let mut text = String::from(
        "| upstream | moment | list, nothing stored | list, stale | zip, nothing stored | most requests (list, zip) |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows() {
        let cell = |expected: Expected| format!("{} {}", expected.outcome.name(), expected.wait.name());
        let zip = row.zip.map_or_else(|| "200, broken off by `min_rate`".into(), cell);
        let zip_requests = row.zip.map_or_else(|| "2".into(), |zip| zip.requests.to_string());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {zip} | {}, {zip_requests} |",
            row.fault,
            row.point,
            cell(row.list),
            cell(row.stale),
            row.list.requests,
        );
    }
    text
}
