//! Reads `publish.yaml`: the fields that the registry shows, and which keys of the package model have a value.

use std::collections::HashMap;

use serde_json::Value;

use super::content::{Content, ContentNode};
use crate::{
    origin::VerifyError,
    package::{PublishDetails, PublishManifest},
};

/// Largest `publish.yaml` that is parsed, in bytes.
const MAX_PUBLISH_BYTES: u64 = 1 << 20;
/// Characters of a text that are kept.
const MAX_TEXT_CHARS: usize = 1_000;
/// Number of tags or providers that are kept.
const MAX_LIST_ITEMS: usize = 50;
/// Largest field that is kept as JSON, in bytes.
const MAX_DETAIL_BYTES: usize = 64 << 10;
/// Deepest nesting of a field that is kept as JSON. JSON parsers refuse a document of more than 128 levels, and the
/// field becomes part of others.
const MAX_DETAIL_DEPTH: usize = 32;

/// File names at the root of the content, in order of preference.
const PUBLISH_FILE_NAMES: [&str; 2] = ["publish.yaml", "publish.yml"];

/// A `publish.yaml`.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one is made per zip")]
pub(super) enum PublishFile {
    /// There is none.
    Absent,
    /// It is larger than [`MAX_PUBLISH_BYTES`].
    TooLarge,
    /// It is no YAML mapping.
    Invalid,
    /// A link stands in its place.
    InDoubt,
    /// It is a YAML mapping.
    Parsed(ParsedPublish),
}

/// The content of a `publish.yaml`.
#[derive(Debug)]
pub(super) struct ParsedPublish {
    /// The well-formed fields. Any other field is absent, and so is one that is too large.
    pub(super) manifest: PublishManifest,
    /// The top-level keys that have a value: neither null nor blank.
    keys: Vec<String>,
}

impl ParsedPublish {
    /// True if a key has a value, whatever its form and size.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|own| own == key)
    }
}

impl PublishFile {
    /// Parses the text of the file.
    pub(super) fn parse(text: &[u8]) -> Self {
        if text.len() as u64 > MAX_PUBLISH_BYTES {
            return Self::TooLarge;
        }
        match serde_saphyr::from_slice::<HashMap<String, Value>>(text) {
            Ok(fields) => Self::Parsed(parse_fields(fields)),
            Err(_) => Self::Invalid,
        }
    }

    /// `Type`, where the file has it.
    pub(super) fn kind(&self) -> Option<&str> {
        match self {
            Self::Parsed(parsed) => parsed.manifest.kind.as_deref(),
            _ => None,
        }
    }

    /// The fields; all absent if the file cannot be read.
    pub(super) fn into_manifest(self) -> PublishManifest {
        match self {
            Self::Parsed(parsed) => parsed.manifest,
            _ => PublishManifest::default(),
        }
    }
}

/// Reads `publish.yaml`, else `publish.yml`, at the root of the content.
///
/// # Errors
/// If the zip cannot be read.
pub(super) fn read(content: &mut dyn Content) -> Result<PublishFile, VerifyError> {
    let mut unread = PublishFile::Absent;
    for name in PUBLISH_FILE_NAMES {
        if let Some(text) = content.read(name, MAX_PUBLISH_BYTES)? {
            return Ok(PublishFile::parse(&text));
        }
        unread = match (unread, content.node(name)) {
            (PublishFile::Absent, ContentNode::File) => PublishFile::TooLarge,
            (PublishFile::Absent, ContentNode::Link) => PublishFile::InDoubt,
            (unread, _) => unread,
        };
    }
    Ok(unread)
}

fn parse_fields(mut fields: HashMap<String, Value>) -> ParsedPublish {
    let has_value = |value: &Value| !value.is_null() && value.as_str().is_none_or(|text| !text.trim().is_empty());
    let keys = fields.iter().filter(|(_, value)| has_value(value)).map(|(key, _)| key.clone()).collect();
    let mut detail = |name| fields.remove(name).filter(|value| !value.is_null() && is_small(value));
    let details = PublishDetails {
        service: detail("Service"),
        commands: detail("Commands"),
        properties: detail("Properties"),
        parameters: detail("Parameters"),
    };
    let text = |name| fields.get(name).and_then(scalar);
    let list = |name| fields.get(name).map(texts).unwrap_or_default();
    let manifest = PublishManifest {
        kind: text("Type"),
        name: text("Name"),
        description: text("Description"),
        category: text("Category"),
        tags: list("Tags"),
        provider: list("Provider"),
        version: text("Version"),
        home_page: text("HomePage"),
        edition: text("Edition"),
        effective: text("Effective"),
        organization: text("Organization"),
        details,
    };
    ParsedPublish { manifest, keys }
}

/// True if a value can be kept as JSON.
fn is_small(value: &Value) -> bool {
    let mut room = vec![0; MAX_DETAIL_BYTES];
    is_within_depth(value, MAX_DETAIL_DEPTH) && serde_json::to_writer(&mut room[..], value).is_ok()
}

/// True if a value is nested at most `depth` deep.
fn is_within_depth(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_within_depth(item, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().all(|field| is_within_depth(field, depth - 1)),
        _ => true,
    }
}

/// A text, or a number in place of a text (`Name: 2048`).
fn scalar(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().chars().take(MAX_TEXT_CHARS).collect(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    (!text.is_empty()).then_some(text)
}

/// A list, or one text separated by commas.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(scalar).take(MAX_LIST_ITEMS).collect(),
        Value::String(text) => {
            let parts = text.split([',', '\u{ff0c}']).map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| part.chars().take(MAX_TEXT_CHARS).collect()).take(MAX_LIST_ITEMS).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> PublishManifest {
        PublishFile::parse(text).into_manifest()
    }

    #[test]
    fn a_key_has_a_value_unless_it_is_null_or_blank() {
        let text = format!("A: x\nB:\nC: ' '\nD: 0\nE: {{}}\nF: []\nG: {}\nH: ~\n", "x".repeat(100_000));
        let PublishFile::Parsed(parsed) = PublishFile::parse(text.as_bytes()) else { panic!("a mapping") };
        let has: String =
            ["A", "B", "C", "D", "E", "F", "G", "H", "I"].into_iter().filter(|key| parsed.has(key)).collect();
        assert_eq!(has, "ADEFG");
    }

    fn full(tags: &[&str]) -> PublishManifest {
        PublishManifest {
            kind: Some("Component".into()),
            name: Some("fc3".into()),
            description: Some("\u{51fd}\u{6570}: compute".into()),
            category: Some("Basics".into()),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            provider: vec!["Alibaba Cloud".into()],
            edition: Some("3.0.0".into()),
            details: PublishDetails {
                commands: Some(serde_json::json!({"deploy": "up"})),
                ..PublishDetails::default()
            },
            ..PublishManifest::default()
        }
    }

    #[test]
    fn deeply_nested_publish_file_is_absent() {
        for text in ["[".repeat(500_000), format!("Name: {}", "{a: ".repeat(200_000)), "- ".repeat(500_000)] {
            assert_eq!(parse(text.as_bytes()), PublishManifest::default());
        }
    }

    #[test]
    fn publish_fields_are_parsed_in_every_form_that_packages_use() {
        let head = "# made by hand\nEdition: 3.0.0\nType: Component\nName: fc3\nCategory: Basics\nProvider:\n  - Alibaba Cloud\nDescription: '\u{51fd}\u{6570}: compute'\nCommands:\n  deploy: up\n";
        for (tags, expected) in [
            ("Tags:\n  - FC\n  - http\n", &["FC", "http"][..]),
            ("Tags: [FC, 3]\n", &["FC", "3"]),
            ("Tags: FC, http ,\n", &["FC", "http"]),
            ("Tags: FC\u{ff0c}http\n", &["FC", "http"]),
            ("Tags:\n", &[]),
            ("", &[]),
        ] {
            assert_eq!(parse(format!("{head}{tags}").as_bytes()), full(expected), "{tags:?}");
        }
        assert_eq!(
            parse(b"\xef\xbb\xbf---\r\nType: Project\r\n").kind.as_deref(),
            Some("Project"),
            "a byte order mark and CRLF"
        );
        assert_eq!(parse(b"{\"Type\": \"Plugin\", \"Name\": 2048}").name.as_deref(), Some("2048"));
    }

    #[test]
    fn every_field_of_the_package_model_is_kept_and_serialised_by_its_name() {
        let text = "Edition: 3.0.0\nType: Project\nName: start-x\nProvider: [Alibaba Cloud, \"\u{817e}\u{8baf}\u{4e91}\"]\n\
            Version: 0.1.22\nDescription: d\nHomePage: https://example.com/x\nTags: [a]\nCategory: c\nEffective: Organization\n\
            Organization: acme\nService:\n  Function Compute:\n    Authorities: [A, B]\nCommands: {z: 1, a: {b: true}}\n\
            Properties: false\nParameters:\n  type: object\n  required: [region]\n  properties: {region: {default: 7}}\n";
        let parsed = parse(text.as_bytes());
        let value = serde_json::to_value(&parsed).expect("JSON");
        let expected = serde_json::json!({
            "Type": "Project",
            "Name": "start-x",
            "Description": "d",
            "Category": "c",
            "Tags": ["a"],
            "Provider": ["Alibaba Cloud", "\u{817e}\u{8baf}\u{4e91}"],
            "Version": "0.1.22",
            "HomePage": "https://example.com/x",
            "Edition": "3.0.0",
            "Effective": "Organization",
            "Organization": "acme",
            "Service": {"Function Compute": {"Authorities": ["A", "B"]}},
            "Commands": {"z": 1, "a": {"b": true}},
            "Properties": false,
            "Parameters": {"type": "object", "required": ["region"], "properties": {"region": {"default": 7}}},
        });
        assert_eq!(value.to_string(), expected.to_string(), "in this order");
        assert_eq!(serde_json::from_value::<PublishManifest>(value).expect("readable"), parsed);
        assert_eq!(serde_json::to_string(&PublishManifest::default()).expect("JSON"), "{}");
        let light = parsed.without_details();
        assert_eq!((light.details, light.version.as_deref()), (PublishDetails::default(), Some("0.1.22")));
        let comma = parse(b"Provider: Alibaba Cloud, AWS\n");
        assert_eq!(comma.provider, ["Alibaba Cloud", "AWS"]);
    }

    #[test]
    fn large_or_deep_detail_is_absent_alone() {
        let of = |text: &str| parse(format!("Type: Component\nProperties: {text}\nCommands: {{a: b}}\n").as_bytes());
        // `["…"]` has four bytes more than its text.
        for (text, is_kept) in [
            (format!("[\"{}\"]", "x".repeat((64 << 10) - 4)), true),
            (format!("[\"{}\"]", "x".repeat((64 << 10) - 3)), false),
            (format!("{}1{}", "[".repeat(32), "]".repeat(32)), true),
            (format!("{}1{}", "[".repeat(33), "]".repeat(33)), false),
            (format!("{}1{}", "{a: ".repeat(33), "}".repeat(33)), false),
            ("~".into(), false),
        ] {
            let parsed = of(&text);
            assert_eq!(parsed.details.properties.is_some(), is_kept, "{text:.40}");
            assert_eq!((parsed.kind.as_deref(), parsed.details.commands.is_some()), (Some("Component"), true));
        }
    }

    #[test]
    fn malformed_publish_fields_are_absent() {
        for text in [&b""[..], b"\xff\xfe\0", b"- a\n- b\n", b"Type: [", b"just words", b"Type: {a: b}\n", b"type: x"] {
            assert_eq!(parse(text), PublishManifest::default(), "{:?}", String::from_utf8_lossy(text));
        }
        let odd = parse(b"Type: Component\nName: ''\nDescription: {zh: x}\nTags: {a: b}\n");
        assert_eq!(odd, PublishManifest { kind: Some("Component".into()), ..PublishManifest::default() });
    }

    #[test]
    fn yaml_bomb_is_absent_and_long_texts_are_truncated() {
        let mut bomb = String::from("a0: &a0 [x, x]\n");
        for level in 1..40 {
            let last = level - 1;
            bomb.push_str(&format!("a{level}: &a{level} [*a{last}, *a{last}]\n"));
        }
        assert_eq!(parse(format!("{bomb}Type: Component\n").as_bytes()), PublishManifest::default());
        let long = parse(format!("Description: {}\n", "\u{4e2d}".repeat(5_000)).as_bytes());
        assert_eq!(long.description.map(|text| text.chars().count()), Some(MAX_TEXT_CHARS));
    }
}
