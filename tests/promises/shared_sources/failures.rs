//! Recorded sources while the bucket fails, and mirrors that are killed.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_record_was_written_without_an_answer_is_the_mirrors_own() {
    let bucket = TestBucket::scripted().await;
    let forge = both().await;
    let mirror = over(&forge, &bucket).start().await;
    bucket.fault_times(1, Method::PUT, "sources", BucketFault::LostAnswer);
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("gitee"));
    assert_eq!(recorded(&bucket, RECORD).as_deref(), Some("gitee"));
    bucket.fault_times(1, Method::PUT, "state/sources", BucketFault::LostAnswer);
    assert_eq!(set(&mirror, mirror.dir(), "acme/tool", "github").await.status, 200);
    bucket.fault_times(1, Method::PUT, "state/sources", BucketFault::StatusAfterWrite(500));
    assert_eq!(set(&mirror, mirror.dir(), "acme/tool", "gitee").await.status, 200);
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("gitee"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_down_the_first_node_alone_records_new_sources_and_what_is_recorded_goes_on() {
    let bucket = TestBucket::scripted().await;
    let forges = [github_only().await, both().await];
    let fleet = Fleet::start_with(&bucket, &[&forges[0], &forges[1]], |config| config.routes = routes()).await;
    let [first, second] = &fleet.nodes[..] else { panic!("two nodes") };
    assert_eq!(source_at(second, LIST).await.as_deref(), Some("gitee"));
    bucket.script().down();
    assert_eq!(source_at(second, LIST).await.as_deref(), Some("gitee"), "it is recorded here");
    let refused = second.get("/acme/other/releases").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "{refused:?}");
    assert_eq!(source_at(second, "/solo/tool/releases").await.as_deref(), Some("github"), "there is no choice");
    assert_eq!(source_at(first, "/acme/other/releases").await.as_deref(), Some("github"));
    bucket.script().up();
    crate::zips::eventually("it is recorded in the bucket", || {
        recorded(&bucket, "sources/srm/acme/other.json").as_deref() == Some("github")
            && recorded(&bucket, "sources/srm/solo/tool.json").as_deref() == Some("github")
    })
    .await;
    let works = async || source_at(second, "/acme/other/releases").await.as_deref() == Some("github");
    eventually("the other one uses it", works).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_recorded_without_the_bucket_yields_loudly_to_the_buckets() {
    let _log = crate::logs::keep();
    let bucket = TestBucket::scripted().await;
    let forges = [github_only().await, both().await];
    // Both take themselves for the first node.
    let mirrors = two_mirrors([&forges[0], &forges[1]], &bucket).await;
    bucket.script().down();
    for (mirror, expected) in mirrors.iter().zip(["github", "gitee"]) {
        assert_eq!(source_at(mirror, "/acme/other/releases").await.as_deref(), Some(expected));
    }
    bucket.script().up();
    for mirror in &mirrors {
        eventually("it is settled", async || not_shared(mirror).await == 0).await;
    }
    let winner = recorded(&bucket, "sources/srm/acme/other.json").expect("a record");
    for mirror in &mirrors {
        assert_eq!(recorded_at(mirror, mirror.dir(), "acme/other").await.as_ref(), Some(&winner));
    }
    let lines = crate::logs::lines("another mirror has recorded another source of a name");
    assert!(lines.iter().any(|line| line.contains("acme/other") && line.contains("\"ERROR\"")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_sets_is_refused_while_the_bucket_is_down_and_changes_nothing() {
    let bucket = TestBucket::scripted().await;
    let forge = both().await;
    let mirror = over(&forge, &bucket).start().await;
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("gitee"));
    bucket.script().down();
    let refused = set(&mirror, mirror.dir(), "acme/tool", "github").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("bucket")), "{refused:?}");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("gitee"));
    bucket.script().up();
    let done = async || set(&mirror, mirror.dir(), "acme/tool", "github").await.status == 200;
    eventually("it is set when the bucket works", done).await;
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("github"));
    // It goes on holding while the bucket is down, after a restart too.
    bucket.script().down();
    let dir = mirror.stop().await.expect("its directory");
    let mirror = over(&forge, &bucket).start_in(dir.path()).await;
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("github"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_killed_before_it_has_its_own_record_uses_the_buckets() {
    let bucket = TestBucket::scripted().await;
    let forge = both().await;
    let dir = tempfile::tempdir().expect("a directory");
    let rows = "[{packages = \"acme/*\", upstreams = [\"gitee\", \"github\"]}]";
    let launch = || bucket.configure(Launch::serve(&forge, dir.path())).set("routes", rows);
    let process = launch().start().await;
    bucket.fault_times(1, Method::PUT, "sources", BucketFault::HangAfterWrite);
    let asked = tokio::spawn(process.client.get(process.url(LIST)).send());
    crate::zips::eventually("the bucket has it", || bucket.object(RECORD).is_some()).await;
    process.kill().await;
    asked.abort();
    forge.down_host(Host::Gitee).await;
    forge.clear_log();
    let process = launch().start().await;
    assert_eq!(process.get(LIST).await.status, 502, "the recorded source fails");
    assert_eq!(requests_to(&forge, Host::GithubApi), 0, "the next upstream is not asked");
    // What an operator has set is used when it is in the bucket.
    bucket.fault_times(1, Method::PUT, SET, BucketFault::HangAfterWrite);
    let set = Launch::over(&forge, dir.path(), &["route", "set", "acme/tool", "github"]).set("routes", rows).begin();
    crate::zips::eventually("the bucket has it", || bucket.object(SET).is_some()).await;
    process.kill().await;
    assert_ne!(set.ended().await.code, Some(0));
    let process = launch().start().await;
    assert_eq!(source(&process.get(LIST).await).as_deref(), Some("github"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_in_the_bucket_is_no_reason_to_take_another_source() {
    let bucket = TestBucket::scripted().await;
    let forge = both().await;
    let mirror = over(&forge, &bucket).start().await;
    bucket.overwrite(RECORD, "{}");
    let refused = mirror.get(LIST).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(set(&mirror, mirror.dir(), "acme/tool", "github").await.status, 200);
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("github"), "an operator can set it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_have_set_is_written_again_where_the_bucket_has_an_older_state() {
    let bucket = TestBucket::scripted().await;
    let forge = both().await;
    let mirror = over(&forge, &bucket).start().await;
    assert_eq!(set(&mirror, mirror.dir(), "acme/tool", "gitee").await.status, 200);
    let backup = bucket.object(SET).expect("a state");
    assert_eq!(set(&mirror, mirror.dir(), "acme/tool", "github").await.status, 200);
    let newest = bucket.object(SET).expect("a state");
    bucket.overwrite(SET, backup);
    crate::zips::eventually("it is written again", || bucket.object(SET) == Some(newest.clone())).await;
    assert_eq!(source_at(&mirror, LIST).await.as_deref(), Some("github"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_hangs_on_sources_holds_no_request_for_long() {
    let bucket = TestBucket::scripted().await;
    let forge = github_only().await;
    let fleet = Fleet::start_with(&bucket, &[&forge, &forge], |config| config.routes = routes()).await;
    let [first, second] = &fleet.nodes[..] else { panic!("two nodes") };
    bucket.fault(Method::PUT, "sources", BucketFault::Hang);
    let asked_at = Instant::now();
    assert_eq!(second.get("/acme/other/releases").await.status, 503, "its record is in doubt");
    bucket.fault(Method::GET, "sources", BucketFault::Hang);
    assert_eq!(second.get("/acme/other/releases").await.status, 503);
    assert_eq!(source_at(first, "/acme/other/releases").await.as_deref(), Some("github"), "it decides alone");
    assert!(asked_at.elapsed() < Duration::from_secs(20), "{:?}", asked_at.elapsed());
    bucket.script().clear_faults();
    let settled = async || source_at(second, "/acme/other/releases").await.as_deref() == Some("github");
    eventually("the other one uses what the first one has recorded", settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_sets_while_another_source_is_taken_over_stays_and_is_no_error() {
    let _log = crate::logs::keep();
    let bucket = TestBucket::scripted().await;
    let forge = both().await;
    let name = "acme/taken";
    let record = json!({"name": name, "dialect": "srm", "upstream": "gitee", "at": "2026-01-01T00:00:00Z"});
    bucket.overwrite("sources/srm/acme/taken.json", record.to_string());
    let gate = bucket.gate(Method::GET, "sources/srm/acme/taken");
    let dir = recorded_before(&forge, [name.to_owned()].into_iter(), "github").await;
    let mirror = over(&forge, &bucket).start_in(dir.path()).await;
    // It has found that the bucket has a record, and reads it.
    gate.reached().await;
    assert_eq!(set(&mirror, dir.path(), name, "github").await.status, 200);
    gate.open();
    eventually("it is settled", async || not_shared(&mirror).await == 0).await;
    assert_eq!(recorded_at(&mirror, dir.path(), name).await.as_deref(), Some("github"));
    let lines = crate::logs::lines("another mirror has recorded another source of a name");
    assert!(!lines.iter().any(|line| line.contains(name)), "{lines:?}");
}
