//! What a file defines: names at the top level, and the methods of each type.

use std::collections::BTreeMap;

use crate::scan::{Token, tokens};

/// The source without its inline test module, which by convention stands last. A declaration of a file of tests ends
/// nothing.
pub(crate) fn without_tests(source: &str) -> &str {
    const START: &str = "#[cfg(test)]\nmod ";
    let inline = source.match_indices(START).find(|(at, _)| {
        let first_line = source[at + START.len()..].lines().next().unwrap_or_default();
        !first_line.ends_with(';')
    });
    inline.map_or(source, |(at, _)| &source[..at])
}

fn sign(token: Option<&Token>, wanted: char) -> bool {
    matches!(token, Some(Token::Sign(sign)) if *sign == wanted)
}

/// The types, traits and constants that a file defines at its top level.
pub(crate) fn definitions(source: &str) -> Vec<String> {
    const KEYWORDS: [&str; 6] = ["struct", "enum", "trait", "type", "const", "static"];
    let tokens = tokens(without_tests(source));
    let mut names = Vec::new();
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{' | '(' | '[') => depth += 1,
            Token::Sign('}' | ')' | ']') => depth -= 1,
            Token::Word(word) if depth == 0 && KEYWORDS.contains(&word.as_str()) => {
                if let Some(Token::Word(name)) = tokens.get(at + 1)
                    && !["fn", "_", "async", "unsafe", "mut"].contains(&name.as_str())
                    // A lifetime leaves its word behind: `&'static str` declares no static.
                    && (!["const", "static"].contains(&word.as_str()) || sign(tokens.get(at + 2), ':'))
                {
                    names.push(name.clone());
                }
            }
            _ => {}
        }
    }
    names
}

/// How many methods the inherent `impl` blocks of a file give each type.
pub(crate) fn methods(source: &str) -> BTreeMap<String, usize> {
    let tokens = tokens(without_tests(source));
    let mut counts = BTreeMap::new();
    let mut depth = 0;
    let mut owner: Option<String> = None;
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(word) if word == "impl" && depth == 0 => {
                let body = (at..tokens.len()).find(|&end| sign(tokens.get(end), '{')).unwrap_or(tokens.len());
                owner = inherent_type(&tokens[at + 1..body]);
                at = body;
                continue;
            }
            Token::Word(word) if word == "fn" && depth == 1 => {
                if let Some(owner) = &owner {
                    *counts.entry(owner.clone()).or_default() += 1;
                }
            }
            Token::Sign('{') => depth += 1,
            Token::Sign('}') => {
                depth -= 1;
                if depth == 0 {
                    owner = None;
                }
            }
            _ => {}
        }
        at += 1;
    }
    counts
}

/// The type of an `impl` header, or `None` where it implements a trait.
fn inherent_type(header: &[Token]) -> Option<String> {
    let mut angle = 0;
    let mut name = None;
    for (at, token) in header.iter().enumerate() {
        match token {
            Token::Sign('<') => angle += 1,
            // The arrow of a function type is no closing bracket.
            Token::Sign('>') if at == 0 || !sign(header.get(at - 1), '-') => angle -= 1,
            Token::Word(word) if angle == 0 && word == "for" => return None,
            Token::Word(word) if angle == 0 && word == "where" => break,
            Token::Word(word) if angle == 0 => name = Some(word.clone()),
            _ => {}
        }
    }
    name
}

/// The functions of a file whose error type is a bare `String`.
pub(crate) fn string_errors(source: &str) -> Vec<String> {
    let tokens = tokens(without_tests(source));
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let name = match (token, tokens.get(at + 1)) {
            (Token::Word(word), Some(Token::Word(name))) if word == "fn" => name,
            _ => continue,
        };
        let end = (at..tokens.len()).find(|&end| sign(tokens.get(end), '{') || sign(tokens.get(end), ';'));
        let header = &tokens[at..end.unwrap_or(tokens.len())];
        let arrow = header.windows(2).rposition(|pair| pair == [Token::Sign('-'), Token::Sign('>')]);
        let result = arrow.map_or(&header[..0], |arrow| &header[arrow..]);
        let string = [Token::Sign(','), Token::Word("String".into()), Token::Sign('>')];
        if result.iter().any(|token| token.is_word("Result")) && result.windows(3).any(|part| part == string) {
            found.push(name.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
#[cfg(test)]
mod file;
        pub struct One { const_field: u8 }
        const MAX_ONES: usize = { const INNER: usize = 3; INNER };
        pub(crate) type Alias<T> = Vec<T>;
        fn text() -> &'static str { \"\" }
        impl<'a, F: Fn(u8) -> u8> One { pub const fn a() {} fn b(&self) { fn inner() {} } const C: u8 = 1; }
        impl<T> From<T> for One { fn from(_: T) -> Self { todo!() } }
        impl One { async fn c() -> Result<(), String> { Ok(()) } fn d() -> Result<String, Error> { e() } }
#[cfg(test)]
mod tests { struct Hidden; }";

    #[test]
    fn the_items_of_a_file_are_found() {
        assert_eq!(definitions(SOURCE), ["One", "MAX_ONES", "Alias"]);
        assert_eq!(methods(SOURCE), BTreeMap::from([("One".to_owned(), 4)]));
        assert_eq!(string_errors(SOURCE), ["c"]);
    }
}
