//! The document and the code say the same: every address, every administrative request with its fields, the version.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use http::Method;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::DOCUMENT;
use crate::{
    admin_api::{
        ADMIN_PATH_PREFIX, AdminRequest, BlockVersions, CheckDocument, CollectGarbage, CountHosted, CreateToken,
        ExportArchives, ExportHosted, FailureCode, GetFirstSeen, GetStoredState, ImportArchive, ImportDocument,
        ImportSource, KeepArchives, ListArchives, ListBlocks, ListFailedPublications, ListPins, ListTokens, Ping,
        PlanImport, PruneHosted, PushArchives, PushEvent, PushState, PushSums, ReadArchive, ReadStats, ReadStatus,
        ReloadConfig, RemoveArchives, RevokeToken, RotateSigningKey, SetRoute, ShowRoute, UnblockVersions,
        UnyankVersion, VerifyArchives, VerifyHosted, WarmArchive, WarmLists, YankVersion,
    },
    dialect::{
        self, ApiRequest, ApiRoot, CatalogMenu, Config, Dialect, NamedUpstream, Names, OfficialRoutes, Ops, Route,
        WebPage,
    },
    entry::Key,
    package::DialectName,
};

fn document() -> Value {
    serde_json::from_slice(&DOCUMENT).expect("JSON")
}

/// What a reference leads to; a value that is none, itself.
fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => value,
    }
}

/// An operation of the document: its path with the examples of its parameters filled in.
struct Operation<'d> {
    template: &'d str,
    path: String,
    method: Method,
    content: &'d Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(template, item)| operations_of(document, template, item)).collect()
}

fn operations_of<'d>(document: &'d Value, template: &'d str, item: &'d Value) -> Vec<Operation<'d>> {
    let mut path = template.to_owned();
    for parameter in item["parameters"].as_array().into_iter().flatten() {
        let parameter = resolve(document, parameter);
        assert_eq!(
            (parameter["in"].as_str(), parameter["required"].as_bool()),
            (Some("path"), Some(true)),
            "{template}"
        );
        let example = match &parameter["example"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        path = path.replace(&format!("{{{}}}", parameter["name"].as_str().expect("a name")), &example);
    }
    assert!(!path.contains('{'), "{template} has a parameter that is not described");
    let methods = item.as_object().expect("a path").iter().filter(|(key, _)| *key != "parameters");
    let operation = |(method, content): (&String, &'d Value)| Operation {
        template,
        path: path.clone(),
        method: method.to_uppercase().parse().expect("a method"),
        content,
    };
    methods.map(operation).collect()
}

/// Names on a forge and two registries, with publishing.
fn names() -> Names {
    let upstreams =
        vec![NamedUpstream::forge("github"), NamedUpstream::registry("official", None), NamedUpstream::hosted()];
    Names::new(&Config::default(), &[], upstreams, OfficialRoutes::On).expect("a valid configuration")
}

fn parsed(names: &Names, operation: &Operation<'_>) -> Route {
    let Operation { template, path, method, .. } = operation;
    dialect::parse(names, method, path, None).unwrap_or_else(|error| panic!("{method} {template}: {}", error.message()))
}

/// Makes a function that names each case of a type, and the list of these names. A case without a line does not compile.
macro_rules! cases {
    ($function:ident, $list:ident, $type:ty, { $($pattern:pat => $name:literal,)* }) => {
        const $list: &[&str] = &[$($name),*];

        fn $function(value: &$type) -> &'static str {
            match value {
                $($pattern => $name,)*
            }
        }
    };
}

cases!(request_case, REQUEST_CASES, ApiRequest, {
    ApiRequest::Releases { .. } => "releases",
    ApiRequest::Latest { .. } => "latest",
    ApiRequest::Tag { .. } => "tag",
    ApiRequest::ById { assets: false, .. } => "by id",
    ApiRequest::ById { assets: true, .. } => "assets",
    ApiRequest::Archive { .. } => "zip",
    ApiRequest::Flat { .. } => "flat zip",
    ApiRequest::Metadata { version: Some(_), .. } => "metadata record",
    ApiRequest::Metadata { version: None, .. } => "metadata",
    ApiRequest::Repository { .. } => "repository",
    ApiRequest::Catalog(_) => "catalog",
    ApiRequest::Menu(CatalogMenu::Categories) => "categories",
    ApiRequest::Menu(CatalogMenu::Providers) => "providers",
    ApiRequest::OwnPackages(_) => "own packages",
    ApiRequest::Detail { .. } => "rows",
    ApiRequest::Publish { .. } => "publish",
    ApiRequest::Delete { .. } => "delete",
    ApiRequest::Reserve => "reserve",
    ApiRequest::Upload { .. } => "upload",
    ApiRequest::RenewCode => "renew code",
    ApiRequest::Ops(Ops::Healthz) => "liveness",
    ApiRequest::Ops(Ops::Readyz) => "readiness",
    ApiRequest::Ops(Ops::Metrics) => "metrics",
    ApiRequest::Ops(Ops::OpenApi) => "openapi",
    ApiRequest::Ops(Ops::Admin(_)) => "administration",
    ApiRequest::Ops(Ops::Web(WebPage::Packages(_))) => "web packages",
    ApiRequest::Ops(Ops::Web(WebPage::Package { version: Some(_), .. })) => "web version",
    ApiRequest::Ops(Ops::Web(WebPage::Package { version: None, .. })) => "web package",
    ApiRequest::Ops(Ops::Web(WebPage::Health)) => "web health",
    ApiRequest::Ops(Ops::Web(WebPage::SetUp { .. })) => "web set-up",
    ApiRequest::Ops(Ops::Web(WebPage::SignIn)) => "sign-in",
    ApiRequest::Ops(Ops::Web(WebPage::Asset(_))) => "web asset",
});

cases!(dialect_case, DIALECT_CASES, Dialect, {
    Dialect::Srm => "srm",
    Dialect::Github(ApiRoot::Plain) => "github",
    Dialect::Github(ApiRoot::ApiV3) => "github below /api/v3",
    Dialect::Simple => "simple",
    Dialect::V3 => "v3",
});

cases!(code_case, CODE_CASES, FailureCode, {
    FailureCode::NoPackage => "no-package",
    FailureCode::NoRelease => "no-release",
    FailureCode::NoVersion => "no-version",
    FailureCode::Blocked => "blocked",
    FailureCode::Offline => "offline",
    FailureCode::UpstreamUnreachable => "upstream-unreachable",
    FailureCode::UpstreamTimeout => "upstream-timeout",
    FailureCode::UpstreamBusy => "upstream-busy",
    FailureCode::NoRoom => "no-room",
    FailureCode::PinsUnavailable => "pins-unavailable",
    FailureCode::UpstreamThrottled => "upstream-throttled",
    FailureCode::UpstreamDenied => "upstream-denied",
    FailureCode::UpstreamStatus => "upstream-status",
    FailureCode::UpstreamInvalid => "upstream-invalid",
    FailureCode::TooLarge => "too-large",
    FailureCode::PinMismatch => "pin-mismatch",
    FailureCode::Loop => "loop",
    FailureCode::Refused => "refused",
    FailureCode::Forbidden => "forbidden",
    FailureCode::Unauthorized => "unauthorized",
    FailureCode::SourceChanged => "source-changed",
    FailureCode::RepositoryReplaced => "repository-replaced",
    FailureCode::Unbuilt => "unbuilt",
    FailureCode::NotConforming => "not-conforming",
    FailureCode::VersionExists => "version-exists",
    FailureCode::VersionDeleted => "version-deleted",
    FailureCode::NameTaken => "name-taken",
    FailureCode::BeingPublished => "being-published",
    FailureCode::Other => "other",
});

#[test]
fn every_path_of_the_document_is_parsed_and_every_request_has_a_path() {
    let document = document();
    let names = names();
    let mut requests = BTreeSet::new();
    let mut dialects = BTreeSet::new();
    for operation in operations(&document).iter().filter(|operation| operation.template != "/") {
        let Route { dialect, request } = parsed(&names, operation);
        let tag = operation.content["tags"][0].as_str().expect("a tag");
        let expected = match &request {
            ApiRequest::Ops(Ops::Admin(path)) => {
                assert_eq!(operation.template, format!("{ADMIN_PATH_PREFIX}{path}"));
                "administration"
            }
            ApiRequest::Ops(Ops::Web(_)) => "web",
            ApiRequest::Ops(_) => "operations",
            request if request.is_publication() => "publishing",
            _ => dialect.name().as_str(),
        };
        assert_eq!(tag, expected, "{} {}", operation.method, operation.template);
        requests.insert(request_case(&request));
        dialects.insert(dialect_case(&dialect));
    }
    assert_eq!(requests, REQUEST_CASES.iter().copied().collect(), "requests without a path in the document");
    assert_eq!(dialects, DIALECT_CASES.iter().copied().collect(), "dialects without a path in the document");
}

/// The routes in the sources of the administration API.
fn admin_routes() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs::read_dir(root.join("admin_api")).expect("a directory").map(|file| file.expect("a file").path());
    let sources = files.chain([root.join("admin_api.rs")]).map(|file| fs::read_to_string(file).expect("a text"));
    let routes = sources.flat_map(|source| {
        let requests = source.split("\nrequest!(").skip(1);
        requests.map(|request| request.split('"').nth(1).expect("a route").to_owned()).collect::<Vec<_>>()
    });
    routes.collect()
}

/// A request, read from its example in the document and written again.
type Example = fn(&Value) -> Result<Value, serde_json::Error>;

fn read_and_write<R: Serialize + DeserializeOwned>(example: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<R>(example.clone())?)
}

macro_rules! examples {
    ($($request:ty),* $(,)?) => {
        BTreeMap::from([$((<$request as AdminRequest>::ROUTE, read_and_write::<$request> as Example)),*])
    };
}

/// Every request with a body of JSON.
fn examples() -> BTreeMap<&'static str, Example> {
    examples![
        BlockVersions,
        CheckDocument,
        CollectGarbage,
        CountHosted,
        CreateToken,
        ExportArchives,
        ExportHosted,
        GetFirstSeen,
        GetStoredState,
        ImportDocument,
        ImportSource,
        KeepArchives,
        ListArchives,
        ListBlocks,
        ListFailedPublications,
        ListPins,
        ListTokens,
        Ping,
        PlanImport,
        PruneHosted,
        PushArchives,
        ReadArchive,
        ReadStats,
        ReadStatus,
        ReloadConfig,
        RemoveArchives,
        RevokeToken,
        RotateSigningKey,
        SetRoute,
        ShowRoute,
        UnblockVersions,
        UnyankVersion,
        VerifyArchives,
        VerifyHosted,
        WarmArchive,
        WarmLists,
        YankVersion,
    ]
}

fn keys(value: &Value) -> BTreeSet<&String> {
    value.as_object().map(|fields| fields.keys().collect()).unwrap_or_default()
}

#[test]
fn every_administrative_route_is_described_and_no_other() {
    let document = document();
    let operations = operations(&document);
    let posts = operations.iter().filter(|operation| operation.content["tags"][0] == "administration");
    let described = posts.map(|operation| operation.template.trim_start_matches(ADMIN_PATH_PREFIX).to_owned());
    assert_eq!(described.collect::<BTreeSet<_>>(), admin_routes());
    let with_octets = [ImportArchive::ROUTE.to_owned()];
    let with_json = examples().into_keys().map(str::to_owned);
    assert_eq!(with_json.chain(with_octets).collect::<BTreeSet<_>>(), admin_routes(), "every request has an example");
}

#[test]
fn administrative_requests_have_the_described_fields() {
    let document = document();
    for (route, read_and_write) in examples() {
        let body = &document["paths"][format!("{ADMIN_PATH_PREFIX}{route}")]["post"]["requestBody"]["content"];
        let body = &body["application/json"];
        let schema = resolve(&document, &body["schema"]);
        let written = read_and_write(&body["example"]).unwrap_or_else(|error| panic!("{route}: {error}"));
        assert_eq!(keys(&body["example"]), keys(&schema["properties"]), "{route}: the example has every field");
        assert_eq!(keys(&written), keys(&schema["properties"]), "{route}: the document has every field of the type");
    }
}

#[test]
fn every_event_of_a_push_is_described_with_its_fields() {
    let document = document();
    let described = &document["paths"]["/-/shared/push"]["post"]["responses"]["200"]["content"]["application/jsonl"];
    let described = described["schema"]["oneOf"].as_array().expect("events");
    let key = Key::new("github/devsapp/fc3/tag/v1.0.0");
    let events = [
        PushEvent::Begin { zips: 0, bytes: 0 },
        PushEvent::Source { name: "fc3".to_owned(), dialect: DialectName::Srm },
        PushEvent::Pins { pins: 0 },
        PushEvent::Mismatch { key: key.clone() },
        PushEvent::Zip { key, size: 0, state: PushState::Uploaded },
        PushEvent::Stopped { message: String::new() },
        PushEvent::End(PushSums::default()),
    ];
    assert_eq!(described.len(), events.len());
    for event in events {
        let event = serde_json::to_value(event).expect("JSON");
        let schema = described.iter().find(|schema| schema["properties"]["event"]["const"] == event["event"]);
        let schema = schema.unwrap_or_else(|| panic!("{event} is not described"));
        assert_eq!(keys(&schema["properties"]), keys(&event), "{event}");
    }
}

#[test]
fn references_lead_to_what_is_there_and_codes_are_complete() {
    let document = document();
    fn walk(document: &Value, value: &Value) {
        resolve(document, value);
        match value {
            Value::Object(fields) => fields.values().for_each(|value| walk(document, value)),
            Value::Array(items) => items.iter().for_each(|value| walk(document, value)),
            _ => {}
        }
    }
    walk(&document, &document);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let codes = document["components"]["schemas"]["FailureCode"]["enum"].as_array().expect("codes");
    assert_eq!(codes.iter().filter_map(Value::as_str).collect::<Vec<_>>(), CODE_CASES);
    for code in codes {
        let known: FailureCode = serde_json::from_value(code.clone()).expect("a code");
        assert_eq!(code_case(&known), code);
    }
    let ids: Vec<_> =
        operations(&document).iter().map(|operation| operation.content["operationId"].to_string()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "two operations have one id");
}
