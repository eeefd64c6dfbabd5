//! Folders in what is stored: warmed, listed, forgotten.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_warmed_by_its_alias_and_listed_as_its_repository() {
    let forge = Forge::start().await;
    forge.repo(REPOSITORY).tag("x@1.0.0", is("one")).tag("x@1.1.0", is("two"));
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = with_alias(&forge).start_in(dir.path()).await;
    let lists = mirror.admin(dir.path(), "warm/lists", json!({"package": "start-x"})).await;
    let found = &lists[0];
    assert_eq!(found["event"], "stored", "{found}");
    let tags: Vec<&Value> = found["releases"].as_array().expect("a list").iter().map(|row| &row["tag"]).collect();
    assert_eq!(tags, ["1.1.0", "1.0.0"]);
    assert_eq!(found["latest"], "1.1.0");
    let events = mirror.admin(dir.path(), "warm/zip", json!({"package": "start-x", "version": "1.0.0"})).await;
    assert_eq!(events.last().expect("an event")["event"], "stored", "{events:?}");
    let route = mirror.admin(dir.path(), "route", json!({"name": "start-x"})).await;
    let dialects = route[0]["dialects"].as_array().expect("a list");
    assert_eq!(dialects.len(), 3, "not in the github dialect");
    for dialect in dialects {
        assert_eq!((&dialect["asked"], &dialect["rule"]), (&json!(["github:acme/apps//apps/x"]), &json!("alias")));
    }
    assert_eq!(route[0]["packages"][0]["package"], "github:acme/apps");
    assert_eq!(route[0]["packages"][0]["versions"], 1);
    let rows = mirror.admin(dir.path(), "stock", json!({"pattern": "acme/apps"})).await;
    assert_eq!((rows.len(), &rows[0]["version"]), (1, &json!("x@1.0.0")));
    forge.down().await;
    assert_eq!(code(&mirror.get("/start-x/flat/1.0.0").await), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_the_pins_of_a_repository_forgets_those_of_its_folders() {
    let forge = Forge::start().await;
    let repository = forge.repo(REPOSITORY).branch("main", is("first"));
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = with_alias(&forge).start_in(dir.path()).await;
    assert_eq!(code(&mirror.get("/start-x/flat/1.2.3").await), "first");
    repository.branch("main", is("second"));
    let removal = json!({"pattern": "acme/apps", "forget": true, "dry_run": false});
    let report = mirror.admin(dir.path(), "rm", removal).await;
    // Of the commit, of the version, and of the repository that the name was.
    assert_eq!(report[0]["forgotten"], 3, "{report:?}");
    assert_eq!(code(&mirror.get("/start-x/flat/1.2.3").await), "second");
}

#[tokio::test]
async fn a_folder_is_listed_by_its_alias_and_described_by_its_own_files() {
    let forge = Forge::start().await;
    let yaml = "Type: Component\nName: x\nDescription: the folder\nCommands: {deploy: up}\n";
    forge.repo(REPOSITORY).release("x-1.2.3", |r| apps(r).file("apps/x/publish.yaml", yaml));
    forge.repo("acme/hidden").release("x-1.0.0", apps).private();
    let aliases = [("start-x", "github:acme/apps//apps/x"), ("start-h", "github:acme/hidden//apps/x")];
    forge.accept_token("T0KEN");
    let mirror = with_aliases(&forge, &aliases).token("github", "T0KEN").start().await;
    assert_eq!(mirror.get("/v3/packages/start-x/zipball/1.2.3").await.status, 200);
    assert_eq!(mirror.get("/start-x/metadata/1.2.3").await.json()["Commands"], json!({"deploy": "up"}));
    let records = mirror.get("/start-x/metadata").await.json();
    assert_eq!(records[0].as_object().map(serde_json::Map::len), Some(5), "a list has five fields: {records}");
    let latest = mirror.get("/v3/packages/start-x/release/latest").await.json();
    assert_eq!((&latest["body"]["type"], &latest["body"]["description"]), (&json!("Component"), &json!("the folder")));
    let list = mirror.get("/v3/packages/releases?page=-1").await.json();
    let rows = list["body"].as_array().expect("a list");
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("a text")).collect();
    assert!(names.contains(&"start-x") && !names.contains(&"start-h"), "{names:?}");
    let row = rows.iter().find(|row| row["name"] == "start-x").expect("listed");
    assert_eq!((&row["type"], &row["description"]), (&json!("Component"), &json!("the folder")));
}
