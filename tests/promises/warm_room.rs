//! `warm` on a disk that is too small does not report success.

use serde_json::Value;

use crate::{
    forge::Forge,
    process::{Launch, blob},
};

#[tokio::test]
async fn warm_names_the_zips_it_evicted_itself_and_fails() {
    let forge = Forge::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    for n in 0..12 {
        forge.repo("devsapp/fc3").release(&format!("v1.{n}.0"), |r| r.noise("data.bin", n, 1 << 20));
    }
    let warm = Launch::over(&forge, dir.path(), &["warm", "--json", "--jobs", "1", "devsapp/fc3@all"]);
    let ended = warm.set("disk.limit", "8MiB").set("disk.documents", "1MiB").run().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let events: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let failed: Vec<&Value> = events.iter().filter(|event| event["event"] == "failed").collect();
    let there = |n: &u64| blob(dir.path(), &forge.sha256("devsapp/fc3", &format!("v1.{n}.0"))).exists();
    let lost: Vec<u64> = (0..12).filter(|n| !there(n)).collect();
    assert!(!lost.is_empty() && failed.len() == lost.len(), "{lost:?}: {failed:?}");
    for n in lost {
        let what = format!("devsapp/fc3@v1.{n}.0");
        let event = failed.iter().find(|event| event["what"] == what.as_str()).expect("named");
        assert!(event["reason"].as_str().is_some_and(|why| why.contains("disk.limit is 8MiB")), "{event}");
    }
}
