//! Kills of the process during an upload.

use super::*;

/// A mirror of its own process, on which `ci` publishes.
fn hosting_process(forge: &Forge, cache: &Path, store: &Path) -> Launch {
    let rules = r#"[{packages = ["*"], read = ["*"], publish = ["token:ci"], delete = ["token:ci"]}]"#;
    Launch::serve(forge, cache)
        .set("access.enabled", "true")
        .set("access.rules", rules)
        .set("host.names", r#"["acme-*"]"#)
        .set("upstreams.hosted.dir", store.to_str().expect("text"))
        .set("upstreams.hosted.min_free", "1B")
}

/// What an upload has done when the process is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum UploadStep {
    HalfReceived,
    AddressSpent,
    ZipNamed,
    RecordWritten,
    Acknowledged,
}

#[tokio::test]
async fn a_kill_after_any_step_of_an_upload_leaves_all_or_nothing() {
    let forge = Forge::start().await;
    let cache = tempfile::tempdir().expect("a directory");
    let store = tempfile::tempdir().expect("a directory");
    let launch = hosting_process(&forge, cache.path(), store.path());
    let arguments = ["token", "create", "--name", "ci", "--cli", "--scope", "read", "--scope", "publish"];
    let created = Launch::over(&forge, cache.path(), &arguments).run().await;
    assert_eq!(created.code, Some(0), "{created:?}");
    let code = created.out.trim().to_owned();
    let count = |folder: &str| files(&store.path().join(folder)).len();
    let mut dice = Dice::new(0x5eed);
    let mut published = Vec::new();
    use UploadStep::{Acknowledged, AddressSpent, HalfReceived, RecordWritten, ZipNamed};
    for (round, step) in [HalfReceived, AddressSpent, ZipNamed, RecordWritten, Acknowledged].into_iter().enumerate() {
        let version = format!("1.0.{round}");
        let noise: Vec<u8> = (0..200_000).map(|_| u8::try_from(dice.roll(256)).expect("a byte")).collect();
        let zip = component_with("acme-x", &version, &[("noise", &noise)]);
        let mirror = launch.clone().start().await;
        let zips = count("blobs");
        let records = count("releases");
        let cli = Cli::at(&mirror.client, mirror.url(""), Clock::default(), &code);
        let url = cli.reserve("acme-x", &version).await;
        let client = cli.client.clone();
        let sent = zip.clone();
        let upload = tokio::spawn(async move {
            if step == HalfReceived {
                let half = futures_util::stream::iter([Ok::<_, std::io::Error>(sent[..100_000].to_vec())]);
                let body = reqwest::Body::wrap_stream(half.chain(futures_util::stream::pending()));
                return client.put(&url).body(body).send().await.ok().map(|response| response.status().as_u16());
            }
            upload(&client, &url, sent).await
        });
        eventually("the upload has done the step", async || match step {
            HalfReceived => count("stage") == 1,
            AddressSpent => count("uploads/spent") == 1,
            ZipNamed => count("blobs") > zips,
            RecordWritten => count("releases") > records,
            Acknowledged => upload.is_finished(),
        })
        .await;
        mirror.kill().await;
        let was_acknowledged = upload.await.expect("no panic") == Some(201);
        assert!(was_acknowledged || step != Acknowledged);
        let must_be_there = was_acknowledged || step == RecordWritten;
        published.push((version, hex_digest(&zip), must_be_there));
        let mirror = launch.clone().start().await;
        let cli = Cli::at(&mirror.client, mirror.url(""), Clock::default(), &code);
        let mut served = BTreeSet::new();
        for (version, digest, must_be_there) in &published {
            let got = cli.send(Method::GET, &format!("/v3/packages/acme-x/zipball/{version}"), &[]).await;
            if got.status == 200 {
                assert_eq!(&got.sha256(), digest, "{version}");
                served.insert(digest.clone());
            } else {
                assert!(got.status == 404 && !must_be_there, "{version}: {}", got.status);
            }
        }
        assert_eq!(count("stage"), 0, "the start has removed what the kill left");
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        let zips: BTreeSet<_> = files(&store.path().join("blobs")).iter().map(|(path, _)| name(path)).collect();
        assert_eq!((&zips, count("releases")), (&served, served.len()), "{step:?}");
        mirror.kill().await;
    }
}
