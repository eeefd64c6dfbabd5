//! Parses the fields of `publish.yaml` that the registry shows.

use std::collections::HashMap;

use serde_json::Value;

use crate::package::PublishManifest;

/// Largest `publish.yaml` that is parsed, in bytes.
pub(super) const MAX_PUBLISH_BYTES: u64 = 1 << 20;
/// Characters of a text that are kept.
const MAX_TEXT_CHARS: usize = 1_000;
/// Number of tags that are kept.
const MAX_TAGS: usize = 50;

/// File names at the root of the content, in order of preference.
pub(super) const PUBLISH_FILE_NAMES: [&str; 2] = ["publish.yaml", "publish.yml"];

/// Parses the well-formed fields. Any other field is absent; all fields are absent if the text is no YAML mapping.
pub(super) fn parse(text: &[u8]) -> PublishManifest {
    let Ok(fields) = serde_saphyr::from_slice::<HashMap<String, Value>>(text) else {
        return PublishManifest::default();
    };
    let text = |name| fields.get(name).and_then(scalar);
    PublishManifest {
        kind: text("Type"),
        name: text("Name"),
        description: text("Description"),
        category: text("Category"),
        tags: fields.get("Tags").map(tags).unwrap_or_default(),
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
fn tags(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(scalar).take(MAX_TAGS).collect(),
        Value::String(text) => {
            let parts = text.split([',', '\u{ff0c}']).map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| part.chars().take(MAX_TEXT_CHARS).collect()).take(MAX_TAGS).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(tags: &[&str]) -> PublishManifest {
        PublishManifest {
            kind: Some("Component".into()),
            name: Some("fc3".into()),
            description: Some("\u{51fd}\u{6570}: compute".into()),
            category: Some("Basics".into()),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
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
