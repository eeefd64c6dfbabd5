//! `publish`, `delete`, `yank` and `unyank`, over a scripted mirror: what they send, and what they make of its answers.

use std::{fs, path::Path};

use serde_json::{Value, json};
use srm_mirror::entry::Digest;
use tempfile::TempDir;

use crate::{
    process::{Ended, Launch},
    scripted_host::ScriptedHost,
};

const PUBLISH_YAML: &str = "Edition: 3.0.0\nType: Component\nName: demo\nProvider: [Others]\nVersion: 1.2.3\n\
    Description: d\nCategory: c\nService: {x: {}}\nCommands: {deploy: up}\nProperties: {}\n";

/// A component that conforms, with a `.git` folder and a build that git ignores.
fn component() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in [
        ("publish.yaml", PUBLISH_YAML),
        ("package.json", "{\"main\": \"dist/index.js\"}"),
        ("dist/index.js", "exports.x = 1;\n"),
        ("readme.md", "# demo\n"),
        (".git/config", "secret"),
        (".gitignore", "dist\nnode_modules\n"),
        (".signore", "!dist\n"),
        ("node_modules/a.js", "not published"),
    ] {
        write(dir.path(), name, text);
    }
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("created");
    fs::write(path, text).expect("written");
}

async fn publish(dir: &Path, server: &str, more: &[&str]) -> Ended {
    let arguments = ["publish", dir.to_str().expect("text"), "--server", server];
    Launch::bare(&[&arguments, more].concat()).run().await
}

fn published(body: &[u8], created: bool) -> Value {
    let digest = Digest::of(body).to_string();
    json!({"package": "demo", "version": "1.2.3", "digest": digest, "size": body.len(), "created": created})
}

/// What the folder is packed to, learnt from a publication that the mirror refuses.
async fn packed(dir: &Path, host: &ScriptedHost) -> Vec<u8> {
    host.answer(503, json!({"message": "not yet", "status": "503"}));
    assert_eq!(publish(dir, &host.url(), &[]).await.code, Some(69));
    host.requests().last().expect("a request").body.clone().expect("a body").to_vec()
}

#[tokio::test]
async fn a_folder_is_published_under_the_name_and_version_of_its_publish_yaml() {
    let host = ScriptedHost::start().await;
    let dir = component();
    let zip = packed(dir.path(), &host).await;
    host.answer(201, published(&zip, true));
    host.answer(200, published(&zip, false));
    let launch = ["publish", dir.path().to_str().expect("text"), "--server", &host.url()];
    let first = Launch::bare(&launch).variable("SRM_MIRROR_TOKEN", "srmt_secret").run().await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.out.starts_with("published: demo 1.2.3, "), "{first:?}");
    let again = publish(dir.path(), &host.url(), &["--json"]).await;
    let event: Value = serde_json::from_str(&again.out).expect("one JSON value");
    assert_eq!((again.code, &event["event"], &event["package"]), (Some(0), &json!("present"), &json!("demo")));
    let request = &host.requests()[1];
    assert_eq!((request.method.as_str(), &*request.path), ("PUT", "/demo/zipball/1.2.3"));
    assert_eq!(request.header("content-type"), "application/zip");
    assert_eq!(request.header("content-length"), zip.len().to_string());
    assert_eq!(request.header("expect"), "100-continue");
    assert_eq!(request.header("authorization"), "Bearer srmt_secret");
    let digest = sfv::Parser::new(request.header("content-digest")).parse::<sfv::Dictionary>().expect("a dictionary");
    let Some(sfv::ListEntry::Item(item)) = digest.get("sha-256") else { panic!("no sha-256") };
    assert_eq!(item.bare_item.as_byte_sequence().expect("bytes"), Digest::of(&zip).0);
    assert!(request.body.as_ref().is_some_and(|body| **body == zip), "the same files make the same zip");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&zip)).expect("a zip");
    let names: Vec<String> = archive.file_names().map(|name| name.expect("text").into_owned()).collect();
    let expected = [".gitignore", ".signore", "dist/index.js", "package.json", "publish.yaml", "readme.md"];
    assert_eq!(names, expected);
    let entry = archive.by_name("dist/index.js").expect("an entry");
    assert_eq!(entry.last_modified().map(|time| (time.year(), time.month(), time.day())), Some((2023, 11, 1)));
}

#[tokio::test]
async fn a_zip_is_published_as_it_is() {
    let host = ScriptedHost::start().await;
    let dir = component();
    let zip = packed(dir.path(), &host).await;
    let file = dir.path().join("demo.zip");
    fs::write(&file, &zip).expect("written");
    host.answer(201, published(&zip, true));
    let done = publish(&file, &host.url(), &["--package", "demo", "--version", "1.2.3"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(host.requests()[1].body.as_ref().is_some_and(|body| **body == zip));
    fs::write(&file, &zip[..zip.len() - 9]).expect("written");
    let cut = publish(&file, &host.url(), &[]).await;
    assert_eq!(cut.code, Some(64), "{cut:?}");
    assert!(cut.err.contains("cannot be published: the zip"), "{cut:?}");
}

#[tokio::test]
async fn what_does_not_conform_is_named_and_not_sent() {
    let host = ScriptedHost::start().await;
    let dir = component();
    for (change, text, words) in [
        (
            ".signore",
            "",
            "the entry \"dist/index.js\" is missing: .signore or .gitignore leaves it out; write !dist/ into",
        ),
        ("publish.yaml", &*PUBLISH_YAML.replace("Category: c\n", ""), "publish.yaml has no Category"),
        ("publish.yaml", &*PUBLISH_YAML.replace("1.2.3", "v1.2.3"), "is not Major.Minor.Patch[-pre]"),
    ] {
        let before = fs::read_to_string(dir.path().join(change)).expect("read");
        write(dir.path(), change, text);
        let refused = publish(dir.path(), &host.url(), &[]).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains("does not conform to the package model\n  "), "{refused:?}");
        assert!(refused.err.contains(words), "{refused:?}");
        write(dir.path(), change, &before);
    }
    for flags in [["--package", "other"], ["--version", "1.2.4"]] {
        let refused = publish(dir.path(), &host.url(), &[&flags[..], &["--json"]].concat()).await;
        let event: Value = serde_json::from_str(&refused.out).expect("one JSON value");
        assert_eq!(
            (refused.code, &event["event"], &event["code"]),
            (Some(1), &json!("refused"), &json!("not-conforming"))
        );
        assert_eq!(event["findings"].as_array().map(Vec::len), Some(1), "{event}");
    }
    assert!(host.requests().is_empty(), "nothing is sent");
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let host = ScriptedHost::start().await;
    let dir = component();
    let zip = packed(dir.path(), &host).await;
    let done = publish(dir.path(), &host.url(), &["--dry-run", "--json"]).await;
    let event: Value = serde_json::from_str(&done.out).expect("one JSON value");
    assert_eq!((done.code, &event["event"]), (Some(0), &json!("checked")));
    assert_eq!((&event["digest"], &event["entries"]), (&json!(Digest::of(&zip)), &json!(6)));
    assert_eq!(host.requests().len(), 1);
}

#[tokio::test]
async fn each_refusal_of_the_mirror_is_printed_and_has_its_exit_code() {
    let host = ScriptedHost::start().await;
    let dir = component();
    let finding = json!({"rule": "moon-phase", "subject": "moon", "message": "the moon is full"});
    for (status, body, code, words) in [
        (401, json!({"message": "who are you", "status": "401"}), 1, "name its file with --token-file"),
        (403, json!({"message": "demo may not be published", "status": "403"}), 1, "demo may not be published"),
        (409, json!({"message": "other bytes", "status": "409", "code": "version-exists"}), 1, "other bytes"),
        (413, json!({"message": "too large", "status": "413"}), 1, "too large"),
        (422, json!({"message": "no", "status": "422", "code": "not-conforming", "findings": [finding]}), 1, "full"),
        (404, json!({"unexpected": true}), 1, "the mirror answered 404"),
        (503, json!({"message": "the disk is full", "status": "503"}), 69, "the disk is full"),
    ] {
        host.answer(status, body);
        let refused = publish(dir.path(), &host.url(), &[]).await;
        assert_eq!(refused.code, Some(code), "{status}: {refused:?}");
        assert!(refused.err.contains(words), "{status}: {refused:?}");
    }
    host.answer(201, published(b"something else", true));
    let other = publish(dir.path(), &host.url(), &[]).await;
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.err.contains("other bytes than it was sent"), "{other:?}");
    let address = host.url();
    drop(host);
    let gone = publish(dir.path(), &address, &[]).await;
    assert_eq!(gone.code, Some(69), "{gone:?}");
}

#[tokio::test]
async fn a_large_zip_is_not_sent_where_the_mirror_refuses_it_before() {
    let host = ScriptedHost::start().await;
    let dir = component();
    let mut noise = vec![0_u8; 3 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    fs::write(dir.path().join("noise.bin"), noise).expect("written");
    host.answer_early(409, json!({"message": "demo 1.2.3 was published by token:ci", "status": "409"}));
    let refused = publish(dir.path(), &host.url(), &[]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("was published by token:ci"), "{refused:?}");
}

#[tokio::test]
async fn delete_yank_and_unyank_send_their_requests() {
    let host = ScriptedHost::start().await;
    let version = json!({"package": "demo", "version": "1.2.3"});
    host.answer(200, version.clone());
    host.answer(200, json!({"package": "demo", "version": "1.2.3", "yanked": true}));
    host.answer(200, json!({"package": "demo", "version": "1.2.3", "yanked": false}));
    for (command, done) in [("delete", "deleted"), ("yank", "yanked"), ("unyank", "unyanked")] {
        let ended = Launch::bare(&[command, "demo@1.2.3", "--server", &host.url(), "--json"]).run().await;
        let event: Value = serde_json::from_str(&ended.out).expect("one JSON value");
        assert_eq!((ended.code, event), (Some(0), json!({"event": done, "package": "demo", "version": "1.2.3"})));
    }
    let requests = host.requests();
    let sent: Vec<(&str, &str)> =
        requests.iter().map(|request| (request.method.as_str(), request.path.as_str())).collect();
    assert_eq!(sent, [("DELETE", "/demo/zipball/1.2.3"), ("POST", "/-/hosted/yank"), ("POST", "/-/hosted/unyank")]);
    let body: Value = serde_json::from_slice(requests[1].body.as_ref().expect("a body")).expect("JSON");
    assert_eq!(body, version);
    host.answer(404, json!({"message": "there is no demo 9.9.9", "status": "404", "code": "no-version"}));
    let missing = Launch::bare(&["delete", "demo@9.9.9", "--server", &host.url()]).run().await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.err.contains("there is no demo 9.9.9"), "{missing:?}");
    for spec in ["demo", "acme/demo@1.0.0", "demo@", "de mo@1"] {
        let bad = Launch::bare(&["yank", spec, "--server", &host.url()]).run().await;
        assert_eq!(bad.code, Some(64), "{bad:?}");
    }
}
