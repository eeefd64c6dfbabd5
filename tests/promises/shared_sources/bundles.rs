//! Sources and lists of a bundle that the bucket does not take, and a push while what operators have set is damaged.

use std::path::PathBuf;

use super::{
    many::{names, set_state},
    *,
};

/// The routes of a mirror that is launched.
const ROWS: &str = "[{packages = \"acme/*\", upstreams = [\"gitee\", \"github\"]}]";

/// A zip, and lists of packages whose sources are recorded; that of the last one was set.
async fn filled(forge: &Forge) -> TempDir {
    let mirror = without_bucket(forge).start().await;
    assert_eq!(set(&mirror, mirror.dir(), "plain/tool", "github").await.status, 200);
    for path in ["/acme/tool/zipball/1.0.0", LIST, "/acme/other/releases", "/plain/tool/releases"] {
        assert_eq!(mirror.get(path).await.status, 200, "{path}");
    }
    crate::zips::eventually("stored", || crate::zips::blobs(mirror.dir()) == 1).await;
    mirror.stop().await.expect("its directory")
}

async fn bundle(forge: &Forge) -> (TempDir, PathBuf) {
    let dir = filled(forge).await;
    let bundle = dir.path().join("bundle.tar");
    let arguments = ["cache", "export", bundle.to_str().expect("text")];
    let ended = Launch::over(forge, dir.path(), &arguments).set("routes", ROWS).run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    (dir, bundle)
}

/// Imports into an empty directory. Returns what was printed; the exit code is 1.
async fn import(forge: &Forge, bucket: &TestBucket, bundle: &Path, more: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let arguments = [&["cache", "import", bundle.to_str().expect("text")], more].concat();
    let launch = Launch::over(forge, dir.path(), &arguments).set("routes", ROWS);
    let ended = bucket.configure(launch).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.out
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_names_each_source_and_list_that_is_damaged_in_the_bucket_and_imports_the_rest() {
    let bucket = TestBucket::scripted().await;
    let forge = github_only().await;
    let (_dir, bundle) = bundle(&forge).await;
    bucket.overwrite("sources/srm/acme/other.json", "{}");
    // More than a node reads of a list.
    bucket.overwrite("documents/github/acme/other/releases.json", vec![b' '; 5 << 20]);
    let said = import(&forge, &bucket, &bundle, &["--dry-run"]).await;
    assert!(said.contains("damaged  acme/other in srm: "), "{said}");
    let said = import(&forge, &bucket, &bundle, &[]).await;
    for named in ["damaged  acme/other in srm: ", "damaged  github/acme/other/releases: "] {
        assert!(said.contains(named), "{said}");
    }
    assert!(said.contains("\n1 zips (") && said.contains(" and 4 documents imported"), "{said}");
    assert_eq!(recorded(&bucket, RECORD).as_deref(), Some("github"));
    assert!(bucket.object("documents/github/acme/tool/releases.json").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_while_what_operators_have_set_is_damaged_names_all_sources_and_imports_the_rest() {
    let bucket = TestBucket::scripted().await;
    let forge = github_only().await;
    let (_dir, bundle) = bundle(&forge).await;
    bucket.overwrite(SET, "{");
    let said = import(&forge, &bucket, &bundle, &[]).await;
    for name in ["acme/tool", "acme/other", "plain/tool"] {
        assert!(said.contains(&format!("damaged  {name} in srm: ")), "{said}");
    }
    assert!(said.contains("\n1 zips (") && said.contains(" and 5 documents imported"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_names_each_source_for_which_operators_have_set_too_many_and_imports_the_rest() {
    let bucket = TestBucket::scripted().await;
    let forge = github_only().await;
    let (_dir, bundle) = bundle(&forge).await;
    bucket.overwrite(SET, set_state(names("full", 10_000), "gitee"));
    let said = import(&forge, &bucket, &bundle, &[]).await;
    assert!(said.contains("no-room  plain/tool in srm: "), "{said}");
    for name in ["acme/tool", "acme/other"] {
        assert_eq!(recorded(&bucket, &format!("sources/srm/{name}.json")).as_deref(), Some("github"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_while_what_operators_have_set_is_damaged_names_all_sources_and_uploads_the_rest() {
    let bucket = TestBucket::scripted().await;
    let forge = github_only().await;
    let dir = filled(&forge).await;
    bucket.overwrite(SET, "{");
    let launch = Launch::over(&forge, dir.path(), &["shared", "push"]).set("routes", ROWS);
    let ended = bucket.configure(launch).run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for name in ["acme/tool", "acme/other", "plain/tool"] {
        assert!(ended.out.contains(&format!("source not taken by the bucket  {name} (srm)")), "{ended:?}");
    }
    assert!(ended.out.contains("\n2 pins, 1 zips ("), "{ended:?}");
    assert_eq!(bucket.names("claims").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_operators_that_is_damaged_is_named_as_that_and_can_be_deleted() {
    let bucket = TestBucket::scripted().await;
    let forge = both().await;
    let mirror = over(&forge, &bucket).start().await;
    assert_eq!(set(&mirror, mirror.dir(), "acme/tool", "github").await.status, 200);
    let whole = bucket.object(SET).expect("a state");
    bucket.overwrite(SET, "{\"damaged\"");
    let refused = set(&mirror, mirror.dir(), "acme/other", "github").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (409, Some("damaged-in-bucket")), "{refused:?}");
    bucket.script().clear_log();
    crate::zips::eventually("some rounds", || bucket.requests(&Method::GET, SET) >= 5).await;
    bucket.remove(SET);
    // A mirror that knows it writes it again.
    crate::zips::eventually("it is written again", || bucket.object(SET) == Some(whole.clone())).await;
}
