use super::*;
use crate::{entry::RecordedSource, package::DialectName};

fn source(name: &str, upstream: &str) -> RecordedSource {
    let at = Timestamp::UNIX_EPOCH;
    RecordedSource { name: name.into(), dialect: DialectName::Srm, upstream: upstream.into(), at }
}

#[tokio::test]
async fn sources_are_replaced_together_where_they_differ_and_still_count() {
    let rig = rig(64);
    let sources = rig.disk.sources();
    for name in ["a/a", "a/b", "a/d"] {
        sources.record(source(name, "gitee"), SourcePlace::Here).await.expect("recorded");
    }
    let others = || ["a/a", "a/b", "a/c"].map(|name| source(name, "github")).to_vec();
    let is_current = |source: &RecordedSource| source.name != "a/b";
    let written = sources.replace_all(others(), SourcePlace::Bucket, is_current).await.expect("written");
    assert_eq!(written, [source("a/a", "github"), source("a/c", "github")]);
    assert_eq!(sources.replace_all(others(), SourcePlace::Bucket, is_current).await.expect("written"), []);
    let rig = rig.restart().await;
    let sources = rig.disk.sources();
    let pages = async |selection| {
        let first = sources.page_after(None, 2, selection).await.expect("read");
        let second = sources.page_after(first.last().cloned(), 2, selection).await.expect("read");
        [first, second].concat()
    };
    let here = [source("a/b", "gitee"), source("a/d", "gitee")];
    assert_eq!(pages(SourceSelection::NotShared).await, here);
    assert_eq!(pages(SourceSelection::All).await, [&written[..1], &here[..1], &written[1..], &here[1..]].concat());
}
