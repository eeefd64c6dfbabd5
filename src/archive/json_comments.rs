//! Removes what `tsconfig.json` has beyond JSON: comments, and commas before a closing bracket.

/// The text with its comments and the commas before a closing bracket replaced by blanks, as `tsconfig.json` has them.
pub(super) fn without_comments(text: &[u8]) -> Vec<u8> {
    let mut plain = text.to_vec();
    // Position of a comma that only blanks follow so far.
    let mut comma = None;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let len = match rest[0] {
            b'"' => string_len(rest),
            b'/' if rest.starts_with(b"//") => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with(b"/*") => {
                let end = rest[2..].windows(2).position(|pair| pair == b"*/");
                end.map_or(rest.len(), |end| end + 4)
            }
            _ => 1,
        };
        match rest[0] {
            b'/' if len > 1 => plain[at..at + len].fill(b' '),
            b',' => comma = Some(at),
            b'}' | b']' => {
                if let Some(comma) = comma.take() {
                    plain[comma] = b' ';
                }
            }
            byte if byte.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        at += len;
    }
    plain
}

/// Length of the string at the beginning of `text`, with its quotes.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_removed_only_outside_of_strings() {
        for (text, expected) in [
            (
                "{\"a\": \"// no /* no */ ,}\", // yes\n \"b\": [1, 2, /* x */ ], }",
                r#"{"a":"// no /* no */ ,}","b":[1,2]}"#,
            ),
            ("/**/[\"\\\"//\", 1,\n]", r#"["\"//",1]"#),
            ("[1 // end", ""),
            ("[1, , 2]", ""),
            ("\"unclosed", ""),
            ("\"unclosed\\", ""),
            ("/", ""),
        ] {
            let parsed = serde_json::from_slice::<Value>(&without_comments(text.as_bytes()));
            assert_eq!(parsed.map(|value| value.to_string()).unwrap_or_default(), expected, "{text}");
        }
    }
}
