//! `/-/openapi.json` describes what a running mirror answers.

use reqwest::Method;
use serde_json::Value;

use crate::{
    access::{self, rule, with_rules},
    bucket::TestBucket,
    fleets::Fleet,
    forge::Forge,
    json_answers::gunzip,
    mirror::{Mirror, TestResponse, setup},
};

const DOCUMENT: &str = "/-/openapi.json";
const HTML: [(&str, &str); 1] = [("accept", "text/html")];

struct Description(Value);

/// An address of the document with the examples of its parameters, and its operations.
struct DescribedAddress<'d> {
    template: &'d str,
    path: String,
    item: &'d Value,
}

impl Description {
    async fn of(mirror: &Mirror) -> Self {
        Self(mirror.get(DOCUMENT).await.json())
    }

    fn resolve<'d>(&'d self, value: &'d Value) -> &'d Value {
        value["$ref"].as_str().map_or(value, |reference| self.0.pointer(&reference[1..]).expect("a target"))
    }

    /// The addresses; `id` is that of a release on the forge.
    fn addresses(&self, id: &str) -> Vec<DescribedAddress<'_>> {
        let filled = |template: &str, item: &Value| {
            let parameters = item["parameters"].as_array().into_iter().flatten();
            parameters.map(|parameter| self.resolve(parameter)).fold(template.to_owned(), |path, parameter| {
                let name = parameter["name"].as_str().expect("a name");
                let example = if name == "id" { id } else { parameter["example"].as_str().expect("an example") };
                path.replace(&format!("{{{name}}}"), example)
            })
        };
        let paths = self.0["paths"].as_object().expect("paths");
        paths.iter().map(|(template, item)| DescribedAddress { template, path: filled(template, item), item }).collect()
    }

    /// Checks that a response is among those of an operation: its status, its type and, of JSON, its fields.
    fn check(&self, operation: &Value, got: &TestResponse, of: &str) {
        let described = &operation["responses"][got.status.to_string()];
        assert!(!described.is_null(), "{of}: {} is not described: {got:?}", got.status);
        let content = &self.resolve(described)["content"];
        let media_type = got.header("content-type").split(';').next().unwrap_or_default();
        if content.is_null() {
            assert!(got.body.is_empty(), "{of}: a body is not described: {got:?}");
            return;
        }
        let content = &content[media_type];
        assert!(!content.is_null(), "{of}: {media_type} is not described");
        if media_type == "application/json" {
            let value = got.json();
            let fault = self.fault(&content["schema"], &value, "");
            let fault = fault.or_else(|| self.undescribed(&content["schema"], &value, ""));
            assert_eq!(fault, None, "{of}: {got:?}");
        }
    }

    /// A field of a value that its schema does not describe.
    fn undescribed(&self, schema: &Value, value: &Value, at: &str) -> Option<String> {
        let parts = self.parts(schema, value);
        let properties = || parts.iter().filter_map(|part| part["properties"].as_object());
        let is_open = properties().next().is_none()
            || parts.iter().any(|part| !matches!(part["additionalProperties"], Value::Null | Value::Bool(false)));
        let fields = value.as_object().into_iter().flatten();
        let field = |(name, value): (&String, &Value)| {
            let at = format!("{at}/{name}");
            let mut described = properties().filter_map(|fields| fields.get(name)).peekable();
            if described.peek().is_none() && !is_open {
                return Some(format!("{at} is not described"));
            }
            described.find_map(|schema| self.undescribed(schema, value, &at))
        };
        let items = value.as_array().into_iter().flatten();
        let item = |item: &Value| {
            let schemas = parts.iter().map(|part| &part["items"]).filter(|items| items.is_object());
            schemas.into_iter().find_map(|schema| self.undescribed(schema, item, &format!("{at}/items")))
        };
        fields.into_iter().find_map(field).or_else(|| items.into_iter().find_map(item))
    }

    /// A schema with all that are a part of it, and those choices of it that fit a value.
    fn parts<'d>(&'d self, schema: &'d Value, value: &Value) -> Vec<&'d Value> {
        let schema = self.resolve(schema);
        let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array()).into_iter().flatten();
        let choices = choices.filter(|choice| self.fault(choice, value, "").is_none());
        let parts = schema["allOf"].as_array().into_iter().flatten().chain(choices);
        std::iter::once(schema).chain(parts.flat_map(|part| self.parts(part, value))).collect()
    }

    /// Where a value does not have the type, the fields or the constant of its schema.
    fn fault(&self, schema: &Value, value: &Value, at: &str) -> Option<String> {
        let schema = self.resolve(schema);
        let is = |name: &Value| match name.as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("null") => value.is_null(),
            Some("integer") => value.is_i64() || value.is_u64(),
            other => panic!("the type {other:?} at {at}"),
        };
        let is_of_type = match &schema["type"] {
            Value::Null => true,
            Value::Array(names) => names.iter().any(is),
            name => is(name),
        };
        let is_constant = schema.get("const").is_none_or(|constant| constant == value);
        let is_listed = schema["enum"].as_array().is_none_or(|values| values.contains(value));
        if !is_of_type || !is_constant || !is_listed {
            return Some(format!("{at}: {value} is not {schema}"));
        }
        let required = schema["required"].as_array().into_iter().flatten();
        let absent = required.filter_map(Value::as_str).find(|field| value.get(field).is_none());
        let absent = absent.map(|field| format!("{at}/{field} is absent"));
        let fields = schema["properties"].as_object().into_iter().flatten();
        let mut fields = fields.filter_map(|(name, schema)| Some((name, schema, value.get(name)?)));
        let items = value.as_array().into_iter().flatten();
        let mut items = items.filter(|_| schema["items"].is_object());
        let mut parts = schema["allOf"].as_array().into_iter().flatten();
        let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        let has_choice = choices.is_none_or(|all| all.iter().any(|schema| self.fault(schema, value, at).is_none()));
        absent
            .or_else(|| fields.find_map(|(name, schema, value)| self.fault(schema, value, &format!("{at}/{name}"))))
            .or_else(|| items.find_map(|item| self.fault(&schema["items"], item, &format!("{at}/items"))))
            .or_else(|| parts.find_map(|part| self.fault(part, value, at)))
            .or_else(|| (!has_choice).then(|| format!("{at}: {value} is none of {schema}")))
    }
}

/// A forge and registries that have what the examples name.
async fn forge() -> Forge {
    let forge = Forge::start().await;
    let publish =
        "Type: Component\nName: fc3\nVersion: 0.2.0\nProvider: [Acme]\nDescription: A test.\nCategory: Test\n";
    forge.repo("devsapp/fc3").release("v0.2.0", |r| {
        r.full().publish_yaml(publish).file("index.js", "1").asset("notes.txt", "text/plain", "2")
    });
    forge.registry().component("fc3").version("0.1.22");
    forge.simple_registry().component("fc3").version("0.1.22").version("v0.2.0");
    forge
}

#[tokio::test]
async fn what_is_read_has_the_described_status_type_and_fields() {
    let forge = forge().await;
    let mirror = Mirror::over(&forge).await;
    let document = Description::of(&mirror).await;
    let id = mirror.get("/repos/devsapp/fc3/releases/latest").await.json()["id"].to_string();
    // The pages show what is stored.
    assert_eq!(mirror.get("/github/devsapp/fc3/zipball/v0.2.0").await.status, 200);
    let mut refused = Vec::new();
    for DescribedAddress { template, path, item } in document.addresses(&id) {
        let operation = &item["get"];
        if operation.is_null() {
            continue;
        }
        let fields = if operation["tags"][0] == "web" { &HTML[..] } else { &[] };
        let got = mirror.get_with(&path, fields).await;
        document.check(operation, &got, template);
        let head = mirror.request(Method::HEAD, &path, fields).await.expect("a head");
        let alike = head.status == got.status && head.header("content-type") == got.header("content-type");
        assert!(alike && head.body.is_empty(), "HEAD {template}: {head:?}, not as {got:?}");
        if got.status >= 400 {
            refused.push(template);
        }
    }
    refused.sort_unstable();
    // No example names the stylesheet, whose name has its digest in it, and registries have no default branch.
    let expected = ["/-/assets/{name}", "/simple/{name}/zipball", "/simple/{owner}/{repo}/zipball", "/{name}/zipball"];
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn what_is_not_there_has_the_described_envelope() {
    let forge = Forge::start().await;
    let mirror = Mirror::over(&forge).await;
    let document = Description::of(&mirror).await;
    for DescribedAddress { template, path, item } in document.addresses("7") {
        if let Some(operation) = item.get("get") {
            document.check(operation, &mirror.get(&path).await, template);
        }
        for (method, name) in [(Method::PUT, "put"), (Method::DELETE, "delete"), (Method::POST, "post")] {
            if let Some(operation) = item.get(name) {
                let got = mirror.request(method, &path, &[("content-type", "application/json")]).await;
                if template.starts_with("/v3/uploads/") {
                    assert!(got.is_err(), "{template}: the client prints success for {got:?}");
                    continue;
                }
                document.check(operation, &got.expect("a response"), template);
            }
        }
    }
}

#[tokio::test]
async fn every_administrative_route_is_answered_on_the_control_socket() {
    let forge = Forge::start().await;
    let mirror = Mirror::over(&forge).await;
    let document = Description::of(&mirror).await;
    for DescribedAddress { template, path, item } in document.addresses("7") {
        let Some(operation) = item.get("post").filter(|post| post["tags"][0] == "administration") else { continue };
        let got = mirror.control(mirror.dir(), Method::POST, &path, "[").await;
        assert_eq!(got.status, 400, "{template}: {got:?}");
        document.check(operation, &got, template);
        let content = &operation["requestBody"]["content"]["application/json"];
        let is_question =
            ["ping", "status", "stats", "blocks", "token/list", "route", "warm/stored", "warm/first-seen"];
        if is_question.iter().any(|route| path == format!("/-/{route}")) {
            let got = mirror.control(mirror.dir(), Method::POST, &path, content["example"].to_string()).await;
            assert_eq!(got.status, 200, "{template}: {got:?}");
            document.check(operation, &got, template);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_node_of_a_fleet_is_described() {
    let bucket = TestBucket::start().await;
    let forge = Forge::start().await;
    let fleet = Fleet::start(&bucket, &[&forge]).await;
    let mirror = &fleet.nodes[0];
    let document = Description::of(mirror).await;
    let operation = &document.0["paths"]["/-/status"]["post"];
    let got = mirror.control(mirror.dir(), Method::POST, "/-/status", "{}").await;
    document.check(operation, &got, "/-/status");
    let status = got.json();
    assert!(status["shared"].is_object() && status["fleet"]["nodes"] == 1, "{status}");
}

#[tokio::test]
async fn every_caller_may_read_the_document_and_none_may_change_it() {
    let forge = access::forge().await;
    let closed = with_rules(setup(&forge), vec![rule(&["*"], &["token:ci"], false)]).start().await;
    assert_eq!(closed.get("/v3/packages/releases").await.status, 401, "nothing else may be read");
    let got = closed.get(DOCUMENT).await;
    assert_eq!((got.status, got.header("content-type")), (200, "application/json; charset=utf-8"));
    assert_eq!(got.json()["openapi"], "3.1.0");
    let head = closed.head(DOCUMENT).await;
    assert_eq!((head.status, head.header("content-length")), (200, &*got.body.len().to_string()));
    let changed = closed.request(Method::POST, DOCUMENT, &[]).await.expect("a response");
    assert_eq!((changed.status, changed.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn the_document_is_compressed_for_a_client_that_accepts_it() {
    let forge = Forge::start().await;
    let mirror = Mirror::over(&forge).await;
    let plain = mirror.get(DOCUMENT).await;
    let got = mirror.get_with(DOCUMENT, &[("accept-encoding", "gzip")]).await;
    for (answer, coding) in [(&plain, ""), (&got, "gzip")] {
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (coding, "accept-encoding"));
    }
    assert_eq!(gunzip(&got.body), plain.body);
    assert!(got.body.len() * 8 < plain.body.len(), "{} bytes", got.body.len());
}
