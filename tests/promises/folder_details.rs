//! What the v3 dialect shows of a folder of a repository: its readme and its `s.yaml`, from the stored zip.

use serde_json::{Value, json};

use crate::{
    forge::{Forge, Spec},
    mirror::setup,
};

/// A component and an application in one repository, each with files of its own, beside files of the repository.
fn apps(spec: Spec) -> Spec {
    spec.file("readme.md", "the repository\n")
        .file("s.yaml", "edition: root\n")
        .file("apps/x/publish.yaml", "Type: Component\nName: x\nVersion: 1.0.0\n")
        .file("apps/x/README.md", "# x\n")
        .file("apps/x/s.yaml", "edition: x\n")
        .file("apps/x/src/s.yaml", "edition: not x\n")
        .file("apps/x/index.js", "exports.x = 1;\n")
        .file("apps/start/publish.yaml", "Type: Application\nName: start\nVersion: 1.0.0\n")
        .file("apps/start/src/s.yml", "edition: start\n")
        .file("apps/startup/readme.md", "another folder\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_shows_its_own_readme_and_syaml_once_its_zip_is_stored() {
    let forge = Forge::start().await;
    forge.repo("acme/apps").tag("x@1.0.0", apps).tag("start@1.0.0", apps);
    let aliases = [("my-x", "acme/apps//apps/x"), ("my-start", "acme/apps//apps/start")];
    let aliases = aliases.map(|(alias, folder)| (alias.to_owned(), folder.to_owned()));
    let mirror = setup(&forge).with(|config| config.names.aliases = aliases.into()).start().await;
    let details = async |alias: &str| -> Value {
        let release = mirror.get(&format!("/v3/packages/{alias}/release/tags/1.0.0")).await.json()["body"].take();
        json!([release["readme"], release["syaml"]])
    };
    assert_eq!(details("my-x").await, json!([null, null]), "never served");
    for (alias, expected) in [
        ("my-x", json!(["# x\n", "edition: x\n"])),
        // An application has its `s.yaml` in `src`; this one has no readme.
        ("my-start", json!([null, "edition: start\n"])),
    ] {
        assert_eq!(mirror.get(&format!("/{alias}/zipball/1.0.0")).await.status, 200);
        crate::eventually::eventually("stored", async || mirror.cache.archives().running_fills() == 0).await;
        let zips = forge.count(|seen| seen.path().contains("/zip"));
        assert_eq!(details(alias).await, expected, "{alias}");
        assert_eq!(forge.count(|seen| seen.path().contains("/zip")), zips, "no zip is fetched for it");
    }
}
