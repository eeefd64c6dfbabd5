//! Every fault of an upstream at every moment, with nothing stored, a fresh and a stale answer: status, bytes, upstream
//! requests, the time to the first byte, and the files that are left. `docs/faults.md` shows the same table.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use srm_mirror::value::Period;

use crate::{
    eventually::eventually,
    forge::Forge,
    mirror::{Mirror, setup},
};

mod table;

use table::{Outcome, Row, Wait, ZIP_BYTES, rows};

const LIST: &str = "/devsapp/fc3/releases";
const ZIP: &str = "/devsapp/fc3/zipball/v1.0.0";
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// What a busy machine adds to a wait.
const SLACK: Duration = Duration::from_secs(3);

async fn forge() -> Forge {
    let forge = Forge::start().await;
    forge.rate_limits(1000, 5000);
    forge.repo("devsapp/fc3").release("v1.0.0", |r| r.stored().noise("data.bin", 7, ZIP_BYTES));
    forge
}

async fn mirror(forge: &Forge) -> Mirror {
    let limits = |section: &mut srm_mirror::upstream::Config| {
        section.response_timeout = Period(Wait::Head.limit());
        section.idle_timeout = Period(Wait::Idle.limit());
        section.total_timeout = Period(Wait::Total.limit());
    };
    let setup = setup(forge).with(|config| {
        config.upstreams.values_mut().for_each(limits);
        config.documents.patience = Period(Wait::Patience.limit());
    });
    setup.start().await
}

/// What a client saw of one request.
struct Observed {
    outcome: Outcome,
    first_byte: Duration,
    /// Upstream requests.
    asked: usize,
}

async fn observe(forge: &Forge, mirror: &Mirror, path: &str) -> Observed {
    let before = forge.requests().len();
    let started = Instant::now();
    let response = mirror.client.get(mirror.url(path)).send().await.expect("the mirror answers");
    let first_byte = started.elapsed();
    let status = response.status().as_u16();
    let outcome = match (status, response.bytes().await) {
        (200, Ok(_)) => Outcome::Whole,
        (200, Err(_)) => Outcome::BrokenOff,
        (status, _) => Outcome::Error(status),
    };
    Observed { outcome, first_byte, asked: forge.requests().len() - before }
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map(Iterator::count).unwrap_or_default()
}

/// Waits until no download runs, and checks that only whole zips are left.
async fn check_files(mirror: &Mirror, what: &str, is_stored: bool) {
    eventually("the end of the download", async || {
        mirror.cache.archives().running_fills() == 0 && files(&mirror.dir().join("spool")) == 0
    })
    .await;
    let blobs = walk(&mirror.dir().join("blobs"));
    assert_eq!(blobs > 0, is_stored, "{what}: {blobs} files of zips");
}

fn walk(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.map(|entry| entry.expect("an entry").path()).map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}

fn check(what: &str, seen: &Observed, outcome: Outcome, wait: Wait, most_requests: usize) {
    assert_eq!(seen.outcome, outcome, "{what}");
    assert!(seen.asked <= most_requests, "{what}: {} upstream requests", seen.asked);
    assert!(seen.first_byte < wait.limit() + SLACK, "{what}: {:?} to the first byte", seen.first_byte);
}

async fn check_row(row: Row) {
    let what = |state: &str| format!("{} {}, {state}", row.fault, row.point);
    {
        let forge = forge().await;
        let mirror = mirror(&forge).await;
        (row.plan)(&forge).await;
        let seen = observe(&forge, &mirror, LIST).await;
        check(&what("list, nothing stored"), &seen, row.list.outcome, row.list.wait, row.list.requests);
    }
    {
        let forge = forge().await;
        let mirror = mirror(&forge).await;
        assert_eq!(mirror.get(LIST).await.status, 200);
        (row.plan)(&forge).await;
        let seen = observe(&forge, &mirror, LIST).await;
        check(&what("list, fresh"), &seen, Outcome::Whole, Wait::None, 0);
        mirror.clock.advance(YEAR);
        let seen = observe(&forge, &mirror, LIST).await;
        check(&what("list, stale"), &seen, Outcome::Whole, row.stale.wait, row.stale.requests);
    }
    if let Some(zip) = row.zip {
        let forge = forge().await;
        let mirror = mirror(&forge).await;
        (row.plan)(&forge).await;
        let what = what("zip, nothing stored");
        let seen = observe(&forge, &mirror, "/devsapp/fc3/zipball/refs/tags/v1.0.0").await;
        check(&what, &seen, zip.outcome, zip.wait, zip.requests);
        check_files(&mirror, &what, zip.outcome == Outcome::Whole).await;
    }
    {
        let forge = forge().await;
        let mirror = mirror(&forge).await;
        assert_eq!(mirror.get(ZIP).await.status, 200);
        (row.plan)(&forge).await;
        mirror.clock.advance(YEAR);
        let seen = observe(&forge, &mirror, ZIP).await;
        check(&what("zip, stored"), &seen, Outcome::Whole, Wait::None, 0);
        check_files(&mirror, &what("zip, stored"), true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_at_every_moment_has_the_answer_of_the_table() {
    stream::iter(rows()).map(check_row).buffer_unordered(6).collect::<()>().await;
}

#[test]
fn the_docs_show_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    let shown = std::fs::read_to_string(&path).expect("docs/faults.md");
    let (head, rest) = shown.split_once("<!-- table -->\n").expect("a mark before the table");
    let (_, tail) = rest.split_once("<!-- end -->").expect("a mark behind the table");
    let expected = format!("{head}<!-- table -->\n{}<!-- end -->{tail}", table::markdown());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("writes");
    }
    assert_eq!(shown, expected, "run this test with UPDATE_DOCS=1");
}
