//! Tests of the scripted registries. The crate that includes this file must have the forge as `crate::forge`.

use std::io::Cursor;

use reqwest::Response;
use serde_json::{Value, json};

use crate::{
    forge::{
        AfterLast, BadSignature, Fault, Fields, Forge, Host, MISSING, Match, Missing, PrivateZips, Registry,
        RegistryZips, Route, Signature, Times, TypeNames,
    },
    tests::{client, get, json, value},
};

/// A v3 registry with one component of three versions, one of them moving.
pub(crate) async fn with_fc3() -> Forge {
    let forge = Forge::start().await;
    forge.registry().component("fc3").version("0.1.21").version("dev").version("0.1.22");
    forge
}

async fn body(url: &str) -> Value {
    json(get(url).await).await["body"].take()
}

/// The names in a zip, folders included.
fn names(zip: &[u8]) -> Vec<String> {
    let mut zip = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
    (0..zip.len()).map(|at| zip.by_index(at).unwrap().name().unwrap().into_owned()).collect()
}

/// What a response says is missing, with its status.
async fn string(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    (status, json(response).await["body"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn v3_names_the_latest_release_and_the_releases_newest_first() {
    let forge = with_fc3().await;
    let api = format!("{}/packages/fc3", forge.v3_api());
    let latest = body(&format!("{api}/release/latest")).await;
    assert_eq!(latest["tag_name"], "0.1.22");
    assert_eq!(latest["zipball_url"], format!("{api}/zipball/0.1.22"));
    assert_eq!((&latest["type"], &latest["provider"]), (&json!("Component"), &json!(["阿里云"])));
    let tag = body(&format!("{api}/release/tags/0.1.21")).await;
    assert_eq!((&tag["tag_name"], &tag["created_at"]), (&json!("0.1.21"), &json!("2024-01-01T01:00:00Z")));
    let list = body(&format!("{api}/release?page=1")).await;
    let tags: Vec<&Value> = list.as_array().unwrap().iter().map(|row| &row["tag_name"]).collect();
    assert_eq!(tags, ["0.1.22", "dev", "0.1.21"]);
    assert_eq!(list[0]["platform"], 3);

    // Latest is the registry's word.
    forge.registry().component("fc3").latest("0.1.21");
    assert_eq!(body(&format!("{api}/release/latest")).await["tag_name"], "0.1.21");
    forge.registry().options(|options| options.fields = Fields::Certain);
    let sparse = body(&format!("{api}/release/latest")).await;
    assert_eq!(sparse.as_object().unwrap().keys().collect::<Vec<_>>(), ["tag_name", "zipball_url"]);
    forge.registry().options(|options| options.zipball_base = Some("http://elsewhere.example/v3".to_owned()));
    let foreign = body(&format!("{api}/release/tags/dev")).await;
    assert_eq!(foreign["zipball_url"], "http://elsewhere.example/v3/packages/fc3/zipball/dev");
}

#[tokio::test]
async fn a_release_list_ends_with_an_empty_page_or_repeats_its_last_one() {
    let forge = with_fc3().await;
    forge.registry().options(|options| options.page_size = 2);
    let page = async |page: u64| {
        let url = format!("{}/packages/fc3/release?page={page}", forge.v3_api());
        let list = body(&url).await;
        list.as_array().unwrap().iter().map(|row| row["tag_name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((page(1).await, page(2).await), (vec!["0.1.22".into(), "dev".into()], vec!["0.1.21".into()]));
    assert!(page(3).await.is_empty());
    forge.registry().options(|options| options.after_last = AfterLast::Repeat);
    assert_eq!(page(3).await, ["0.1.21"]);
    assert_eq!(page(9).await, ["0.1.21"]);
    assert_eq!(forge.count_of(Route::V3List), 5);
}

#[tokio::test]
async fn what_is_missing_has_one_string_and_either_status() {
    let forge = with_fc3().await;
    let api = forge.v3_api();
    forge.registry().component("fc3").remove_version("0.1.21");
    forge.registry().component("none");
    for (missing, status) in [(Missing::NotFound, 404), (Missing::Ok, 200)] {
        forge.registry().options(|options| options.missing = missing);
        for path in ["none/release/latest", "none/release?page=1", "FC3/release/latest", "fc3/release/tags/9.9.9"] {
            assert_eq!(
                string(get(&format!("{api}/packages/{path}")).await).await,
                (status, MISSING.to_owned()),
                "{path}"
            );
        }
        for path in ["fc3/release/tags/0.1.21", "fc3/zipball/0.1.21", "none/zipball/1"] {
            assert_eq!(
                string(get(&format!("{api}/packages/{path}")).await).await,
                (status, MISSING.to_owned()),
                "{path}"
            );
        }
    }
    // Other strings, with any status, are faults.
    forge.fault(Match::route(Route::V3Latest), Fault::v3_error(200, "系统错误"));
    let url = format!("{api}/packages/fc3/release/latest");
    assert_eq!(string(get(&url).await).await, (200, "系统错误".to_owned()));
    assert_eq!(body(&url).await["tag_name"], "0.1.22");
    forge.registry().component("fc3").remove();
    assert_eq!(string(get(&url).await).await.1, MISSING);
}

#[tokio::test]
#[should_panic(expected = "no version twice")]
async fn a_deleted_version_is_not_published_again() {
    let forge = with_fc3().await;
    forge.registry().component("fc3").remove_version("0.1.22").version("0.1.22");
}

#[tokio::test]
async fn a_moving_version_is_published_again_with_other_content() {
    let forge = with_fc3().await;
    let fc3 = forge.registry().component("fc3");
    let url = format!("{}/packages/fc3/release/tags/dev", forge.v3_api());
    let first = (fc3.sha256("dev"), body(&url).await["created_at"].clone());
    let fc3 = fc3.republish("dev", |spec| spec.file("new.txt", "new"));
    assert_ne!(first, (fc3.sha256("dev"), body(&url).await["created_at"].clone()));
    let list = body(&format!("{}/packages/fc3/release", forge.v3_api())).await;
    assert_eq!((&list[0]["tag_name"], list.as_array().unwrap().len()), (&json!("dev"), 3));
    assert_eq!(body(&format!("{}/packages/fc3/release/latest", forge.v3_api())).await["tag_name"], "0.1.22");
    // What a registry must not do, for tests of pins.
    let before = fc3.sha256("0.1.21");
    assert_ne!(fc3.replace("0.1.21", |spec| spec.file("other", "")).sha256("0.1.21"), before);
}

#[tokio::test]
async fn v3_zips_are_flat_and_simple_zips_have_one_top_folder() {
    let forge = with_fc3().await;
    let fc3 =
        forge.registry().component("fc3").unbuilt("0.1.23").version_with("0.1.24", |spec| spec.no_folder_entries());
    let fc = forge.simple_registry().component("fc").version("0.1.1").unbuilt("0.1.2");
    let flat = names(&fc3.zip_bytes("0.1.22"));
    assert_eq!(flat, ["dist/", "dist/index.js", "package.json", "publish.yaml", "readme.md"]);
    assert_eq!(names(&fc3.zip_bytes("0.1.24")), flat[1..]);
    assert_eq!(names(&fc3.zip_bytes("0.1.23")), flat[2..]);
    let foldered = names(&fc.zip_bytes("0.1.1"));
    let top = foldered[0].clone();
    assert!(top.starts_with("fc-") && top.ends_with('/'), "{top}");
    let below: Vec<String> = flat.iter().map(|name| format!("{top}{name}")).collect();
    assert_eq!(foldered[1..], below);
    assert_eq!(fc.zip_bytes("0.1.2").len(), forge.simple_registry().component("fc").archive("0.1.2").len() as usize);
    let app = forge.registry().application("start-demo").version("1.0.0");
    assert!(names(&app.zip_bytes("1.0.0")).contains(&"src/s.yaml".to_owned()));
}

async fn signed(url: &str, signature: &Signature) -> Response {
    let request =
        signature.headers().into_iter().fold(client().get(url), |request, (name, value)| request.header(name, value));
    request.send().await.unwrap()
}

#[test]
fn the_signature_is_that_of_the_cli() {
    let made = Signature::of("abcdefSAFETY", "tjmnMnGsHyhkFFS", 1_795_886_162);
    assert_eq!(made.sign_code, "b2a3d204dcd596e8f0d695c766e7ef83689620dcc1ef09e8e30a5e2a438e422b");
    assert_eq!(made.token, "23c98323d664dd5714263fae053d8ca7");
}

#[tokio::test]
async fn a_private_package_is_visible_with_a_valid_signature_only() {
    let forge = with_fc3().await;
    let registry = forge.registry();
    registry.component("secret").version("1.0.0").make_private();
    registry.accept_code("abcdefSAFETY");
    let url = format!("{}/packages/secret/release/latest", forge.v3_api());
    let catalog = format!("{}/packages/releases?page=-1", forge.v3_api());
    let now = jiff::Timestamp::now().as_second();
    let sign = |code: &str, nonce: &str, ago: i64| Signature::of(code, nonce, now - ago);
    assert_eq!(string(get(&url).await).await, (404, MISSING.to_owned()));
    assert_eq!(body(&catalog).await.as_array().unwrap().len(), 1);
    let good = sign("abcdefSAFETY", "000000000000001", 5);
    assert_eq!(json(signed(&url, &good).await).await["body"]["tag_name"], "1.0.0");
    assert_eq!(signed(&url, &good).await.status(), 404, "a nonce is used once");
    let listed = json(signed(&catalog, &sign("abcdefSAFETY", "000000000000002", 0)).await).await;
    assert_eq!(listed["body"].as_array().unwrap().len(), 2);
    let tampered = Signature { timestamp: (now + 1).to_string(), ..sign("abcdefSAFETY", "000000000000003", 0) };
    let wrong = [
        sign("other", "000000000000004", 0),
        sign("abcdefSAFETY", "short", 0),
        sign("abcdefSAFETY", "000000000000005", 3600),
        tampered,
    ];
    for signature in &wrong {
        assert_eq!(signed(&url, signature).await.status(), 404, "{signature:?}");
    }
    // A signature that is not valid hides no public package, unless the registry refuses it.
    let public = url.replace("secret", "fc3");
    assert_eq!(signed(&public, &wrong[0]).await.status(), 200);
    let zip = url.replace("release/latest", "zipball/1.0.0");
    assert_eq!(get(&zip).await.status(), 404);
    assert_eq!(signed(&zip, &sign("abcdefSAFETY", "000000000000006", 0)).await.status(), 302);
    registry.options(|options| options.private_zips = PrivateZips::Open);
    assert_eq!(get(&zip).await.status(), 302);
    registry.options(|options| options.bad_signature = BadSignature::Refused(401));
    assert_eq!(signed(&public, &wrong[0]).await.status(), 401);
    assert_eq!(get(&public).await.status(), 200);
    registry.component("secret").make_public();
    assert_eq!(get(&url).await.status(), 200);
}

fn fill(registry: &Registry) {
    for n in 0..21 {
        registry.component(&format!("c{n:02}")).version("1.0.0");
    }
    registry.plugin("beautify").version("1.0.0").about(|about| {
        about.category = Some("其它".to_owned());
        about.tags = vec!["web".to_owned()];
        about.providers = vec!["腾讯云".to_owned()];
        about.organisation = Some("acme".to_owned());
    });
    registry
        .application("start-demo")
        .version("1.0.0")
        .about(|about| about.description = "starts with beauty".to_owned());
    registry.component("empty");
}

#[tokio::test]
async fn the_catalog_has_pages_of_twenty_filters_and_a_whole() {
    let forge = Forge::start().await;
    fill(&forge.registry());
    let rows = async |query: &str| {
        let rows = body(&format!("{}/packages/releases{query}", forge.v3_api())).await;
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (query, count) in
        [("", 20), ("?page=1", 20), ("?page=2", 3), ("?page=3", 0), ("?page=-1&lang=en&platform=3", 23)]
    {
        assert_eq!(rows(query).await.len(), count, "{query}");
    }
    assert_eq!(rows("?search=beaut").await, ["beautify", "start-demo"]);
    let beautify = ["?type=2", "?tag=web", "?provider=%E8%85%BE%E8%AE%AF%E4%BA%91", "?category=%E5%85%B6%E5%AE%83"];
    for query in beautify {
        assert_eq!(rows(query).await, ["beautify"], "{query}");
    }
    assert_eq!(rows("?type=3&search=beaut").await, ["start-demo"]);
    assert!(rows("?platform=2").await.is_empty());
    let row = body(&format!("{}/packages/releases?type=2", forge.v3_api())).await[0].take();
    assert_eq!((&row["type"], &row["organization"]["name"]), (&json!("Plugin"), &json!("acme")));
    let categories = body(&format!("{}/common/categories", forge.v3_api())).await;
    let expected = json!([{"id": 1, "name": "其它"}, {"id": 2, "name": "基础云服务"}]);
    assert_eq!((&categories, &row["category"]), (&expected, &expected[0]));
    let providers = body(&format!("{}/common/providers", forge.v3_api())).await;
    assert_eq!(providers, json!([{"id": 1, "name": "腾讯云"}, {"id": 2, "name": "阿里云"}]));
    forge.registry().options(|options| options.type_names = TypeNames::Numbers);
    assert_eq!(body(&format!("{}/packages/releases?type=2", forge.v3_api())).await[0]["type"], 2);
    assert_eq!((forge.count_of(Route::V3Catalog), forge.count_of(Route::V3Common)), (14, 2));
}

#[tokio::test]
async fn the_simple_registry_answers_with_and_without_the_provider() {
    let forge = Forge::start().await;
    let registry = forge.simple_registry();
    let core = registry.component("core").version("0.1.65").version("dev").version("0.1.66");
    let api = forge.simple_api();
    for prefix in ["", "devsapp/"] {
        let list = json(get(&format!("{api}/{prefix}core/releases")).await).await;
        let list = list["Response"].as_array().unwrap();
        let tags: Vec<&Value> = list.iter().map(|release| &release["tag_name"]).collect();
        assert_eq!(tags, ["0.1.66", "dev", "0.1.65"]);
        let latest = json(get(&format!("{api}/{prefix}core/releases/latest")).await).await["Response"].take();
        assert_eq!(latest["zipball_url"], format!("{api}/{prefix}core/zipball/0.1.66"));
        assert_eq!(latest["published_at"], "2024-01-01T03:00:00Z");
        let zip = get(latest["zipball_url"].as_str().unwrap()).await;
        assert_eq!(zip.status(), 302);
        assert_eq!(get(value(&zip, "location")).await.bytes().await.unwrap(), core.zip_bytes("0.1.66"));
    }
    registry.options(|options| {
        options.zips = RegistryZips::Direct;
        options.created_at = true;
        options.times = Times::Beijing;
    });
    let latest = json(get(&format!("{api}/core/releases/latest")).await).await["Response"].take();
    assert_eq!((&latest["created_at"], &latest["published_at"]), (&json!("2024-01-01T11:00:00+08:00"), &Value::Null));
    let direct = get(&format!("{api}/devsapp/core/zipball/0.1.65")).await;
    assert_eq!(direct.bytes().await.unwrap(), core.zip_bytes("0.1.65"));
    for (missing, status) in [(Missing::NotFound, 404), (Missing::Ok, 200)] {
        registry.options(|options| options.missing = missing);
        for path in ["none/releases", "core/zipball/9", "acme/core/releases", "devsapp/none/releases/latest"] {
            let answer = get(&format!("{api}/{path}")).await;
            assert_eq!(answer.status(), status, "{path}");
            let error = json(answer).await["Response"]["Error"].take();
            assert_eq!(error, json!({"Code": "NotFound", "Message": MISSING}), "{path}");
        }
    }
    forge.fault(Match::on(Host::Simple), Fault::simple_error(500, "InternalError", "x"));
    assert_eq!(get(&format!("{api}/core/releases")).await.status(), 500);
    let expected = [(Route::SimpleLatest, 5), (Route::SimpleList, 7), (Route::SimpleZip, 5), (Route::Storage, 2)];
    assert_eq!(forge.counts(), expected.into());
}
