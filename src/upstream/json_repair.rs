//! Reads JSON that is not quite JSON: half a surrogate pair, a raw control character, a byte that is not UTF-8, or a value
//! that is nested too deeply costs no more than that character or value.
//!
//! Release notes are text that people paste, and forges have sent all of these. By hand, because serde_json refuses the
//! whole text, and the lenient parsers there are accept other things (comments, single quotes, missing commas), which would
//! make a cut answer look complete, and none of these.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Values that are nested more deeply become null. serde_json itself gives up at 128.
const MAX_DEPTH: usize = 100;
/// In place of what cannot be read.
const REPLACEMENT: &str = "\\ufffd";

/// A JSON object, and whether its text had to be repaired.
pub(super) struct RepairedJson {
    pub(super) value: Map<String, Value>,
    pub(super) is_repaired: bool,
}

/// Reads a JSON object; repairs its text where it is not JSON. `None` when that does not help.
pub(super) fn object(json: &[u8]) -> Option<RepairedJson> {
    if let Ok(value) = serde_json::from_slice(json) {
        return Some(RepairedJson { value, is_repaired: false });
    }
    let value = serde_json::from_str(&repair(json)).ok()?;
    Some(RepairedJson { value, is_repaired: true })
}

/// The text with U+FFFD in place of characters that no JSON can have, with control characters escaped, and with null in
/// place of values that are nested too deeply. A text that is JSON is only copied.
pub(super) fn repair(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    let text: Cow<'_, str> = text;
    let mut repair = JsonRepair { out: String::with_capacity(text.len()), depth: 0 };
    let mut rest = &*text;
    while let Some(first) = rest.chars().next() {
        let taken = if first == '"' { repair.string(rest) } else { repair.punctuation(first) };
        rest = rest.get(taken..).unwrap_or_default();
    }
    repair.out
}

struct JsonRepair {
    out: String,
    /// Open brackets and braces.
    depth: usize,
}

impl JsonRepair {
    fn is_skipping(&self) -> bool {
        self.depth > MAX_DEPTH
    }

    /// Takes one character outside of strings; returns its length in bytes.
    fn punctuation(&mut self, c: char) -> usize {
        match c {
            '[' | '{' => {
                self.depth += 1;
                if self.depth == MAX_DEPTH + 1 {
                    self.out.push_str("null");
                }
            }
            ']' | '}' => {
                let was_skipping = self.is_skipping();
                self.depth = self.depth.saturating_sub(1);
                if was_skipping {
                    return c.len_utf8();
                }
            }
            _ => {}
        }
        if !self.is_skipping() {
            self.out.push(c);
        }
        c.len_utf8()
    }

    /// Takes the string that `rest` begins with; returns its length in bytes, with its quotes.
    fn string(&mut self, rest: &str) -> usize {
        let mut string = String::from('"');
        let mut at = 1;
        while let Some(c) = rest[at..].chars().next() {
            if c == '\\' {
                at += escape(&rest[at..], &mut string);
                continue;
            }
            at += c.len_utf8();
            if c < ' ' {
                string.push_str(&format!("\\u{:04x}", u32::from(c)));
            } else {
                string.push(c);
            }
            if c == '"' {
                break;
            }
        }
        if !self.is_skipping() {
            self.out.push_str(&string);
        }
        at
    }
}

/// Takes the escape that `rest` begins with; returns its length in bytes.
fn escape(rest: &str, out: &mut String) -> usize {
    let Some(kind) = rest[1..].chars().next() else {
        out.push_str(REPLACEMENT);
        return 1;
    };
    match kind {
        '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' => {
            out.push_str(&rest[..2]);
            2
        }
        'u' => match (code_unit(rest), rest.get(6..).and_then(code_unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => {
                out.push_str(&rest[..12]);
                12
            }
            (Some(0xD800..=0xDFFF), _) => {
                out.push_str(REPLACEMENT);
                6
            }
            (Some(_), _) => {
                out.push_str(&rest[..6]);
                6
            }
            (None, _) => {
                out.push_str(REPLACEMENT);
                2
            }
        },
        // No such escape: the backslash stands for itself.
        _ => {
            out.push_str("\\\\");
            1
        }
    }
}

/// The code unit of the escape `\uXXXX` that `text` begins with.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn body(json: &[u8]) -> Option<Value> {
        object(json).map(|read| {
            assert!(read.is_repaired, "{:?}", String::from_utf8_lossy(json));
            assert_eq!(read.value["tag_name"], "v1");
            read.value["body"].clone()
        })
    }

    #[test]
    fn what_is_not_quite_json_costs_that_character_and_no_more() {
        for (text, expected) in [
            (&br#"{"tag_name":"v1","body":"a\ud83d b"}"#[..], "a\u{fffd} b"),
            (br#"{"tag_name":"v1","body":"\udc00\ud83d\ude00 \ud83dx"}"#, "\u{fffd}\u{1f600} \u{fffd}x"),
            (b"{\"tag_name\":\"v1\",\"body\":\"a\x01\nb\x00\"}", "a\u{1}\nb\0"),
            (b"{\"tag_name\":\"v1\",\"body\":\"a\xff\xc3b\"}", "a\u{fffd}\u{fffd}b"),
            (br#"{"body":"C:\q\uzz","tag_name":"v1"}"#, "C:\\q\u{fffd}zz"),
            (br#"{"body":"]}\ud800,[{\\","tag_name":"v1"}"#, "]}\u{fffd},[{\\"),
        ] {
            assert_eq!(body(text), Some(json!(expected)), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_value_that_is_nested_too_deeply_is_null() {
        let deep = "[{\"a\":".repeat(200) + "\"]}\"" + &"}]".repeat(200);
        let read =
            object(format!("{{\"tag_name\":\"v1\",\"x\":{deep},\"body\":\"b\"}}").as_bytes()).expect("an object");
        assert!(read.is_repaired && read.value["x"].is_array());
        assert_eq!((&read.value["tag_name"], &read.value["body"]), (&json!("v1"), &json!("b")));
    }

    #[test]
    fn a_text_that_is_cut_or_of_another_kind_stays_unreadable() {
        for text in ["", "{", "{\"a\":\"b", "{\"a\":1", "{\"a\" 1}", "[1]", "<html>", "{'a': 1}", "{\"a\":1}}"] {
            assert!(object(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn json_is_read_as_it_is_and_any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,40}") {
            let _ = object(&bytes);
            let json = json!({ "a": text, "b": [text] }).to_string();
            prop_assert_eq!(repair(json.as_bytes()), json);
        }
    }
}
