use serde_json::json;

use super::*;
use crate::{
    archive::FolderFacts,
    dialect::{Config, EnvelopePart, NamedUpstream, OfficialRoutes, PackageRef},
    package::{CatalogPackage, MetadataDetails, PublishDetails, PublishManifest},
    registry::release_facts::{KnownContent, PackageFiles},
};

fn names() -> Names {
    let aliases = [("fc3", "devsapp/fc3"), ("start", "gitee:example/start-demo")];
    let aliases = aliases.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let upstreams = ["github", "gitee"].map(NamedUpstream::forge).to_vec();
    Names::new(&Config { aliases, ..Config::default() }, &[], upstreams, OfficialRoutes::Off)
        .expect("a valid configuration")
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => panic!("an object is needed"),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A release with everything GitHub sends, and one with as little as it may send.
fn from_github() -> Vec<Release> {
    let author = json!({ "login": "octo", "id": 7, "node_id": "U_7", "url": "https://api.github.com/users/octo", "type": "User", "site_admin": false });
    let rest = |id: u64| {
        map(json!({
            "url": format!("https://api.github.com/repos/devsapp/fc3/releases/{id}"),
            "assets_url": format!("https://api.github.com/repos/devsapp/fc3/releases/{id}/assets"),
            "upload_url": format!("https://uploads.github.com/repos/devsapp/fc3/releases/{id}/assets{{?name,label}}"),
            "html_url": format!("https://github.com/devsapp/fc3/releases/tag/{id}"),
            "id": id,
            "author": author,
            "node_id": format!("RE_{id}"),
            "target_commitish": "master",
            "draft": false,
            "immutable": false,
            "updated_at": "2024-05-01T10:00:01Z",
            "tarball_url": "https://api.github.com/repos/devsapp/fc3/tarball/x",
            "zipball_url": "https://api.github.com/repos/devsapp/fc3/zipball/x",
            "mentions_count": 2,
            "reactions": { "url": "https://api.github.com/repos/devsapp/fc3/releases/1/reactions", "total_count": 0 },
        }))
    };
    let asset = Asset {
        name: Some("fc3.tar.gz".into()),
        size: Some(1234),
        content_type: Some("application/gzip".into()),
        browser_download_url: Some("https://github.com/devsapp/fc3/releases/download/v1.1.13/fc3.tar.gz".into()),
        digest: Some("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into()),
        rest: map(json!({
            "url": "https://api.github.com/repos/devsapp/fc3/releases/assets/5", "id": 5, "node_id": "RA_5", "label": "",
            "uploader": author, "state": "uploaded", "download_count": 3,
            "created_at": "2024-05-01T10:00:00Z", "updated_at": "2024-05-01T10:00:00Z",
        })),
    };
    let older = Asset { digest: None, ..asset.clone() };
    vec![
        Release {
            tag_name: "v1.1.13".into(),
            name: Some("Release \"1.1.13\"".into()),
            created_at: at("2024-05-01T09:59:59.999Z"),
            published_at: Some(at("2024-05-01T10:00:00Z")),
            prerelease: false,
            body: "notes\r\n<b>第二行</b>".into(),
            assets: vec![asset, older],
            rest: rest(42),
        },
        Release {
            tag_name: "cli/v1.0.0+rc".into(),
            name: None,
            created_at: at("2021-01-04T07:41:23Z"),
            published_at: Some(at("2021-01-04T07:41:23Z")),
            prerelease: true,
            body: String::new(),
            assets: Vec::new(),
            rest: rest(41),
        },
    ]
}

/// A release with what Gitee sends: no addresses, no `published_at`, assets with two fields or one.
fn from_gitee() -> Vec<Release> {
    let asset = |name: Option<&str>| Asset {
        name: name.map(str::to_owned),
        size: None,
        content_type: None,
        browser_download_url: Some("https://gitee.com/example/start-demo/archive/refs/tags/0.0.1.zip".into()),
        digest: None,
        rest: Map::new(),
    };
    vec![Release {
        tag_name: "0.0.1".into(),
        name: Some("0.0.1".into()),
        created_at: at("2022-12-31T23:59:59+08:00"),
        published_at: None,
        prerelease: false,
        body: "初始版本".into(),
        assets: vec![asset(Some("0.0.1.zip")), asset(None)],
        rest: map(
            json!({ "id": 101, "target_commitish": "master", "author": { "id": 1, "login": "example", "name": "示例" } }),
        ),
    }]
}

fn repository() -> Repository {
    let api = "https://api.github.com/repos/DevsApp/fc3";
    Repository {
        full_name: "DevsApp/fc3".into(),
        private: false,
        default_branch: "master".into(),
        rest: map(json!({
            "id": 515, "node_id": "R_515", "name": "fc3",
            "owner": { "login": "DevsApp", "id": 9, "url": "https://api.github.com/users/DevsApp", "type": "Organization" },
            "html_url": "https://github.com/DevsApp/fc3",
            "description": null,
            "fork": true,
            "url": api,
            "forks_url": format!("{api}/forks"),
            "keys_url": format!("{api}/keys{{/key_id}}"),
            "archive_url": format!("{api}/{{archive_format}}{{/ref}}"),
            "releases_url": format!("{api}/releases{{/id}}"),
            "other_url": "https://api.github.com/repos/DevsApp/fc3-other/forks",
            "clone_url": "https://github.com/DevsApp/fc3.git",
            "stargazers_count": 12,
            "topics": ["serverless"],
            "permissions": { "admin": false, "pull": true },
            "temp_clone_token": "ABC",
            "parent": { "full_name": "a/b", "url": "https://api.github.com/repos/a/b", "permissions": { "pull": true } },
        })),
    }
}

/// The package of a text, which no route concerns.
fn id(names: &Names, text: &str) -> PackageId {
    match names.parse_package(text).expect(text) {
        PackageRef::Id(id) => id,
        PackageRef::Folder(folder) => panic!("a folder: {folder}"),
        PackageRef::Routed(name) => PackageId { upstream: names.default_upstream().clone(), name },
    }
}

/// The JSON, indented for reading (field order as it was sent).
fn pretty(json: &str) -> String {
    let value: Value = serde_json::from_str(json).expect("JSON");
    serde_json::to_string_pretty(&value).expect("JSON")
}

fn list(renderer: &Renderer<'_>, releases: &[Release]) -> String {
    format!("[{}]", releases.iter().map(|release| renderer.release(release)).collect::<Vec<_>>().join(","))
}

fn enveloped(dialect: Dialect, value: &str) -> String {
    let text = |part: &EnvelopePart| match part {
        EnvelopePart::Text(text) => (*text).to_owned(),
        EnvelopePart::RequestId => "req-1".to_owned(),
        EnvelopePart::Value => value.to_owned(),
    };
    dialect.envelope().iter().map(text).collect()
}

fn renderer<'a>(dialect: Dialect, names: &'a Names, package: &'a PackageId) -> Renderer<'a> {
    Renderer { dialect, base: "https://mirror.example", signature: "", names, package, folder: None }
}

#[test]
fn releases_are_rendered_in_each_dialect() {
    let names = names();
    let package = id(&names, "devsapp/fc3");
    for (name, dialect) in [
        ("srm", Dialect::Srm),
        ("simple", Dialect::Simple),
        ("v3", Dialect::V3),
        ("github", Dialect::Github(ApiRoot::Plain)),
        ("github_api_v3", Dialect::Github(ApiRoot::ApiV3)),
    ] {
        let renderer = renderer(dialect, &names, &package);
        let all = list(&renderer, &from_github());
        assert_eq!(all, list(&renderer, &from_github()), "the same bytes every time");
        insta::assert_snapshot!(format!("releases_{name}"), pretty(&enveloped(dialect, &all)));
        let one = renderer.release(&from_github()[0]);
        insta::assert_snapshot!(format!("release_{name}"), pretty(&enveloped(dialect, &one)));
    }
}

#[test]
fn gitee_release_has_no_invented_fields_in_any_dialect() {
    let names = names();
    let package = id(&names, "gitee:example/start-demo");
    for (name, dialect) in [("srm", Dialect::Srm), ("v3", Dialect::V3), ("github", Dialect::Github(ApiRoot::Plain))] {
        let all = list(&renderer(dialect, &names, &package), &from_gitee());
        insta::assert_snapshot!(format!("gitee_{name}"), pretty(&enveloped(dialect, &all)));
    }
}

#[test]
fn repository_links_lead_to_the_mirror_and_no_token_field_is_shown() {
    let names = names();
    let package = id(&names, "devsapp/fc3");
    let shown = renderer(Dialect::Github(ApiRoot::ApiV3), &names, &package).repository(&repository());
    let text = pretty(&shown);
    assert!(!text.contains("permissions") && !text.contains("ABC"));
    insta::assert_snapshot!("repository_github", text);
    // With as little as an upstream must know.
    let package = id(&names, "gitee:example/start-demo");
    let bare = Repository {
        full_name: "example/start-demo".into(),
        private: false,
        default_branch: "main".into(),
        rest: Map::new(),
    };
    let shown = renderer(Dialect::Github(ApiRoot::Plain), &names, &package).repository(&bare);
    insta::assert_snapshot!("repository_bare", pretty(&shown));
}

/// What GitHub's published description requires of a release, with what may be null.
#[test]
fn github_release_has_every_field_that_the_published_schema_requires() {
    let names = names();
    let package = id(&names, "devsapp/fc3");
    let list = list(&renderer(Dialect::Github(ApiRoot::Plain), &names, &package), &from_github());
    let list: Vec<Map<String, Value>> = serde_json::from_str(&list).expect("an array of objects");
    let strings = [
        "assets_url",
        "upload_url",
        "zipball_url",
        "created_at",
        "published_at",
        "node_id",
        "html_url",
        "tag_name",
        "url",
    ];
    for release in &list {
        for key in strings.iter().chain(&["target_commitish", "body"]) {
            assert!(release[*key].is_string(), "{key}");
        }
        assert!(release["name"].is_string() || release["name"].is_null());
        assert!(release["tarball_url"].is_null() && release["id"].is_u64() && release["author"].is_object());
        assert!(release["draft"] == false && release["prerelease"].is_boolean());
        for asset in release["assets"].as_array().expect("an array") {
            for key in
                ["url", "node_id", "name", "content_type", "state", "browser_download_url", "created_at", "updated_at"]
            {
                assert!(asset[key].is_string(), "{key}");
            }
            assert!(asset["id"].is_u64() && asset["size"].is_u64() && asset["download_count"].is_u64());
            assert!(asset.get("digest").is_some() && asset.get("label").is_some() && asset["uploader"].is_object());
        }
    }
}

#[test]
fn forge_fields_never_override_the_mirrors_fields() {
    let names = names();
    let package = id(&names, "devsapp/fc3");
    let mut release = from_github().remove(1);
    for (key, value) in [("zipball_url", json!("https://evil.example")), ("draft", json!(true)), ("body", json!(null))]
    {
        release.rest.insert(key.into(), value);
    }
    release.rest.remove("id");
    let shown = renderer(Dialect::Github(ApiRoot::Plain), &names, &package).release(&release);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["zipball_url"], "https://mirror.example/devsapp/fc3/zipball/cli/v1.0.0%2Brc");
    assert_eq!(shown["url"], "https://mirror.example/repos/devsapp/fc3/releases/tags/cli%2Fv1%2E0%2E0%2Brc");
    assert_eq!((&shown["draft"], &shown["body"]), (&json!(false), &json!("")));
}

#[test]
fn release_is_found_by_the_forges_id() {
    let releases = from_github();
    let names = names();
    let package = id(&names, "devsapp/fc3");
    let renderer = renderer(Dialect::Github(ApiRoot::Plain), &names, &package);
    assert_eq!(find_by_id(&package, &releases, 41), Some(1));
    assert_eq!(find_by_id(&package, &releases, 1), None);
    let assets = renderer.assets(&releases[0]);
    insta::assert_snapshot!("assets_github", pretty(&assets));
}

#[test]
fn metadata_records_have_the_field_names_of_the_model() {
    let known = Metadata {
        name: "fc3".into(),
        kind: Some("Component".into()),
        version: Some("1.1.13".into()),
        publish_time: 1_714_557_600,
        version_body: "notes".into(),
        details: MetadataDetails::default(),
        provenance: None,
        model_findings: None,
    };
    let unknown = Metadata { kind: None, version: None, ..known.clone() };
    let manifest = PublishManifest {
        provider: vec!["阿里云".into()],
        tags: vec!["fc".into()],
        category: Some("云资源".into()),
        description: Some("函数计算".into()),
        effective: Some("Public".into()),
        home_page: Some("https://home.example".into()),
        details: PublishDetails {
            service: Some(json!({"函数计算": {"Authorities": ["A"]}})),
            commands: Some(json!({"deploy": {"help": "up"}})),
            properties: Some(json!({"region": {"type": "string"}})),
            parameters: Some(json!({"type": "object", "required": ["region"]})),
        },
        ..PublishManifest::default()
    };
    for kind in ["Component", "Plugin", "Project", "Application", "Thing"] {
        let manifest = PublishManifest { kind: Some(kind.into()), ..manifest.clone() };
        let record = Metadata { kind: Some(kind.into()), details: MetadataDetails::of(manifest), ..known.clone() };
        insta::assert_snapshot!(format!("metadata_{}", kind.to_lowercase()), pretty(&metadata(&record)));
    }
    insta::assert_snapshot!("metadata", pretty(&metadata(&known)));
    insta::assert_snapshot!("metadata_list", pretty(&format!("[{},{}]", metadata(&known), metadata(&unknown))));
}

#[test]
fn a_v3_release_has_what_its_upstream_says_of_the_package_else_what_the_archive_says() {
    let upstreams = vec![NamedUpstream::forge("github"), NamedUpstream::registry("official", None)];
    let names = Names::new(&Config::default(), &[], upstreams, OfficialRoutes::Off).expect("valid");
    let manifest = PublishManifest {
        kind: Some("Application".into()),
        description: Some("from the archive".into()),
        provider: vec!["阿里云".into()],
        home_page: Some("https://home.example".into()),
        ..PublishManifest::default()
    };
    let files = PackageFiles { readme: Some("# archive".into()), syaml: Some("edition: 3.0.0".into()) };
    let content =
        KnownContent::Folder(std::sync::Arc::new(FolderFacts { publish: manifest, ..FolderFacts::default() }));
    let facts = ArchiveFacts { content, files: files.into(), digest: crate::entry::Digest::of(b"x") };
    let mut release = from_gitee().remove(0);
    release.rest = map(json!({
        "id": 12, "type": "Component", "readme": "# registry", "home": null, "provider": [], "syaml": "",
        "category": {"id": 1, "name": "c"}, "user": {"id": 1, "username": "u"}, "download": 3, "secret": "x",
    }));
    for (name, package, facts) in [
        ("both", "official:fc3", Some(&facts)),
        ("registry", "official:fc3", None),
        // The further fields of a forge are those of its release.
        ("archive", "github:o/r", Some(&facts)),
    ] {
        let package = id(&names, package);
        let renderer = renderer(Dialect::V3, &names, &package);
        assert!(lacks_details(&package, &release), "{name}");
        insta::assert_snapshot!(format!("details_{name}"), pretty(&renderer.detailed_release(&release, facts)));
    }
}

#[test]
fn catalog_rows_omit_unknown_fields() {
    let full = CatalogPackage {
        name: "unused".into(),
        kind: Some("Application".into()),
        description: Some("函数计算".into()),
        category: Some("云资源".into()),
        tags: vec!["fc".into(), "function".into()],
        provider: vec!["阿里云".into()],
        download: Some(7),
        user: Some("devsapp".into()),
        organization: Some("acme".into()),
    };
    let manifest = CatalogPackage { kind: Some("Thing".into()), ..CatalogPackage::default() };
    let listed = [
        CatalogRow { name: "fc3", facts: &full },
        CatalogRow { name: "o__r", facts: &manifest },
        CatalogRow { name: "gitee__o__r", facts: &CatalogPackage::default() },
    ];
    insta::assert_snapshot!("packages_v3", pretty(&enveloped(Dialect::V3, &packages(&listed))));
    insta::assert_snapshot!("menu_v3", pretty(&enveloped(Dialect::V3, &menu(["a", "云资源"]))));
}

#[test]
fn a_release_of_a_registry_has_no_invented_id_in_the_github_dialect() {
    let upstreams = vec![NamedUpstream::forge("github"), NamedUpstream::registry("official-2x", Some("devsapp"))];
    let aliases = [("devsapp/core".to_owned(), "official-2x:core".to_owned())].into();
    let names =
        Names::new(&Config { aliases, ..Config::default() }, &[], upstreams, OfficialRoutes::Off).expect("valid");
    let package = id(&names, "devsapp/core");
    let mut release = from_gitee().remove(0);
    release.rest = map(json!({ "id": 12, "name": "core", "readme": "# core", "syaml": "a: 1", "user": {"id": 1} }));
    let shown = renderer(Dialect::Github(ApiRoot::Plain), &names, &package).release(&release);
    insta::assert_snapshot!("registry_github", pretty(&shown));
}

#[test]
fn times_are_rendered_as_whole_seconds_in_utc() {
    for (from, to) in [
        ("2022-12-31T23:59:59+08:00", "2022-12-31T15:59:59Z"),
        ("2019-11-28T09:09:48.840Z", "2019-11-28T09:09:48Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(whole_second(at(from)), to);
    }
}
