//! Which of several is in a bundle.

use super::*;
use crate::bundles::read;

const DEV: &str = "/official/fc3/flat/dev";

/// A day later: what was fetched before is asked for again.
fn later(mirror: &Mirror) {
    mirror.clock.advance(Duration::from_secs(86_400));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_moving_version_the_last_revision_of_the_bucket_is_in_the_bundle() {
    let bucket = TestBucket::scripted().await;
    let forge = Forge::start().await;
    let mut fc3 = forge.registry().component("fc3").version("dev");
    let mirror = node(&forge, &bucket).start().await;
    for revision in 1..=3 {
        fc3 = fc3.republish("dev", |spec| spec.file("dist/index.js", format!("// {revision}")));
        later(&mirror);
        assert_eq!(mirror.get(DEV).await.sha256(), fc3.sha256("dev"));
        all_uploaded(&mirror, revision).await;
    }
    assert_eq!(bucket.names("claims").len(), 3);
    mirror.stop().await;
    let dir = tempfile::tempdir().expect("a directory");
    let (ended, out) = export(&forge, &bucket, dir.path(), &["--json"]).await;
    assert_eq!((ended.code, &report(&ended)["from_bucket"]), (Some(0), &json!(1)), "{ended:?}");
    let names: Vec<_> = read(&bundle_in(&out)).into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|name| name.contains(&fc3.sha256("dev"))), "{names:?}");
}

/// Whether the list of a bundle has the second release.
async fn has_second_release(forge: &Forge, bucket: &TestBucket, dir: &Path) -> bool {
    let (ended, out) = export(forge, bucket, dir, &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    read(&bundle_in(&out)).iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("v2.0.0"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_both_lists_is_in_the_bundle() {
    const LIST: &str = "/devsapp/fc3/releases";
    let bucket = TestBucket::scripted().await;
    let forge = some_forge().await;
    let first = first_node(&forge, &bucket).await;
    assert_eq!(first.get(LIST).await.status, 200);
    let first = first.stop().await.expect("its directory");
    forge.repo("devsapp/fc3").release("v2.0.0", |r| r);
    let alone = setup(&forge).start().await;
    assert_eq!(alone.get(LIST).await.status, 200);
    let alone = alone.stop().await.expect("its directory");
    assert!(has_second_release(&forge, &bucket, alone.path()).await, "its own is later");
    assert!(!has_second_release(&forge, &bucket, first.path()).await, "both have the earlier one");
    let second = node(&forge, &bucket).start().await;
    later(&second);
    let asked = async || second.get(LIST).await.json().as_array().is_some_and(|list| list.len() == 2);
    crate::eventually::eventually("asked for again", asked).await;
    second.stop().await;
    assert!(has_second_release(&forge, &bucket, first.path()).await, "the bucket's is later");
}
