//! A small reader of Rust source: enough to know which modules a file names, and no more.

/// A word or a single sign of the source. Comments and the insides of literals are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    Sign(char),
}

impl Token {
    pub(crate) fn is_word(&self, text: &str) -> bool {
        matches!(self, Self::Word(word) if word == text)
    }

    fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }
}

/// Splits source into tokens.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut rest = source;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let skip = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => {
                tokens.push(Token::Sign('"'));
                quoted(rest)
            }
            '\'' => lifetime_or_char(rest),
            _ if first.is_alphanumeric() || first == '_' => {
                let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let word = &rest[..len];
                match raw_string(word, &rest[len..]) {
                    Some(more) => len + more,
                    None => {
                        tokens.push(Token::Word(word.to_owned()));
                        len
                    }
                }
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(Token::Sign(first));
                }
                first.len_utf8()
            }
        };
        rest = &rest[skip..];
    }
    tokens
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of a literal that begins with a quote, both quotes included.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn lifetime_or_char(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escape, sign))) => {
            // The character behind the backslash may be a quote itself.
            let from = escape + sign.len_utf8();
            text[from..].find('\'').map_or(text.len(), |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// The rest of a raw string whose prefix has just been read as a word.
fn raw_string(prefix: &str, rest: &str) -> Option<usize> {
    let hashes = rest.bytes().take_while(|&byte| byte == b'#').count();
    if !matches!(prefix, "r" | "br" | "cr") || !rest[hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = hashes + 1;
    Some(rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len()))
}

/// Every path from the crate's root that a file names, as `module::item`, be it in a `use` or in a body.
///
/// `root` is the word for it (`crate`; `srm_mirror` in `main.rs`) and `level` how deep the file's module is under it:
/// `super` that climbs all the way is found too.
pub(crate) fn paths_from_root(source: &str, root: &str, level: usize) -> Vec<String> {
    let tokens = tokens(source);
    let mut paths = Vec::new();
    let mut depth = 0;
    let mut inner = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let inside = at >= 2 && tokens[at - 1].is(':') && tokens[at - 2].is(':');
        match &tokens[at] {
            Token::Sign('{') => {
                depth += 1;
                if at >= 2 && tokens[at - 2].is_word("mod") {
                    inner.push(depth);
                }
            }
            Token::Sign('}') => {
                if inner.last() == Some(&depth) {
                    inner.pop();
                }
                depth -= 1;
            }
            Token::Word(word) if word == root && !inside && separator(&tokens, at + 1) => {
                tree(&tokens, at + 3, "", &mut paths);
            }
            Token::Word(word) if word == "super" && !inside => {
                let mut climbed = 1;
                while separator(&tokens, at + 1) && tokens.get(at + 3).is_some_and(|token| token.is_word("super")) {
                    climbed += 1;
                    at += 3;
                }
                if climbed >= level + inner.len() && separator(&tokens, at + 1) {
                    tree(&tokens, at + 3, "", &mut paths);
                }
            }
            _ => {}
        }
        at += 1;
    }
    paths
}

/// Every path of two parts and more that a file names, with its first part as it is written, be it in a `use` or in a body.
pub(crate) fn paths(source: &str) -> Vec<Vec<String>> {
    let tokens = tokens(source);
    let mut paths = Vec::new();
    let begins = |at: usize| {
        let inside = at >= 2 && separator(&tokens, at - 2);
        matches!(tokens[at], Token::Word(_)) && !inside && separator(&tokens, at + 1)
    };
    for at in (0..tokens.len()).filter(|&at| begins(at)) {
        tree(&tokens, at, "", &mut paths);
    }
    paths.iter().map(|path| path.split("::").map(str::to_owned).collect()).collect()
}

fn separator(tokens: &[Token], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token.is(':')) && tokens.get(at + 1).is_some_and(|token| token.is(':'))
}

/// Reads a use tree or a plain path at `at` and returns where it ends.
fn tree(tokens: &[Token], mut at: usize, prefix: &str, paths: &mut Vec<String>) -> usize {
    match tokens.get(at) {
        Some(Token::Sign('{')) => {
            at += 1;
            while at < tokens.len() && !tokens[at].is('}') {
                at = tree(tokens, at, prefix, paths);
                // An `as` and a comma, whatever stands between.
                while at < tokens.len() && !tokens[at].is(',') && !tokens[at].is('}') {
                    at += 1;
                }
                at += usize::from(tokens.get(at).is_some_and(|token| token.is(',')));
            }
            at + 1
        }
        Some(Token::Word(word)) => {
            let path = if prefix.is_empty() { word.clone() } else { format!("{prefix}::{word}") };
            if separator(tokens, at + 1) && !matches!(tokens.get(at + 3), Some(Token::Sign('<'))) {
                return tree(tokens, at + 3, &path, paths);
            }
            paths.push(path);
            at + 1
        }
        _ => {
            paths.push(format!("{prefix}::*"));
            at + 1
        }
    }
}

/// The `item` of every `env::item` in a file, and the names of helpers that read the environment by themselves.
pub(crate) fn environment_uses(source: &str) -> Vec<String> {
    const HELPERS: [&str; 5] =
        ["from_default_env", "try_from_default_env", "try_from_env", "choose_base_strategy", "var_os"];
    let tokens = tokens(source);
    let mut uses = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        if HELPERS.contains(&word.as_str()) {
            uses.push(word.clone());
        } else if word == "env" && separator(&tokens, at + 1) {
            let mut paths = Vec::new();
            tree(&tokens, at + 3, "", &mut paths);
            uses.append(&mut paths);
        } else if word == "env"
            && at >= 3
            && tokens[at - 3].is_word("std")
            && !tokens.get(at + 1).is_some_and(|t| t.is('!'))
        {
            uses.push("env".to_owned());
        }
    }
    uses
}

/// The names of all functions of a file that are tests, those inside `proptest!` too.
pub(crate) fn tests(source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut names = Vec::new();
    let mut marked = false;
    for (at, token) in tokens.iter().enumerate() {
        if token.is_word("test") && tokens.get(at + 1).is_some_and(|next| next.is(']') || next.is('(')) {
            marked = true;
        } else if token.is_word("fn")
            && std::mem::take(&mut marked)
            && let Some(Token::Word(name)) = tokens.get(at + 1)
        {
            names.push(name.clone());
        }
    }
    names
}

/// A function of a file.
pub(crate) struct Function {
    /// The type or trait whose block holds it.
    pub(crate) owner: Option<String>,
    pub(crate) name: String,
}

/// All functions of a file, in order.
pub(crate) fn functions(source: &str) -> Vec<Function> {
    let tokens = tokens(source);
    let mut functions = Vec::new();
    // The open `impl` and `trait` blocks: their type and the depth of their braces.
    let mut owners: Vec<(String, usize)> = Vec::new();
    let mut opening = None;
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{') => {
                depth += 1;
                if let Some(owner) = opening.take() {
                    owners.push((owner, depth));
                }
            }
            Token::Sign('}') => {
                if owners.last().is_some_and(|(_, opened)| *opened == depth) {
                    owners.pop();
                }
                depth -= 1;
            }
            Token::Word(word) if (word == "impl" || word == "trait") && begins_item(&tokens, at) => {
                opening = block_owner(&tokens[at + 1..]);
            }
            Token::Word(word) if word == "fn" => {
                if let Some(Token::Word(name)) = tokens.get(at + 1) {
                    let owner = owners.last().map(|(owner, _)| owner.clone());
                    functions.push(Function { owner, name: name.clone() });
                }
            }
            _ => {}
        }
    }
    functions
}

/// True where an item may begin: behind another one, an attribute, or a visibility.
fn begins_item(tokens: &[Token], at: usize) -> bool {
    match at.checked_sub(1).map(|before| &tokens[before]) {
        None => true,
        Some(Token::Word(word)) => ["pub", "unsafe"].contains(&word.as_str()),
        Some(Token::Sign(sign)) => "{};])".contains(*sign),
    }
}

/// The type of `impl<…> Trait for Type<…>`, `impl Type` or `trait Name`, whose keyword has just been read.
fn block_owner(tokens: &[Token]) -> Option<String> {
    let mut owner = None;
    let mut angles = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{' | ';') => break,
            Token::Sign('<') => angles += 1,
            Token::Sign('>') if !(at > 0 && tokens[at - 1].is('-')) => angles -= 1,
            Token::Word(word) if word == "where" && angles == 0 => break,
            Token::Sign(':') if angles == 0 && !separator(tokens, at) && !(at > 0 && separator(tokens, at - 1)) => {
                break;
            }
            Token::Word(word) if angles == 0 && word != "for" => owner = Some(word.clone()),
            _ => {}
        }
    }
    owner
}

/// True when a file calls a method of this name.
pub(crate) fn calls_method(source: &str, name: &str) -> bool {
    tokens(source).windows(3).any(|part| part[0].is('.') && part[1].is_word(name) && part[2].is('('))
}

/// Every word of a file, outside comments and literals.
pub(crate) fn words(source: &str) -> Vec<String> {
    let word = |token| match token {
        Token::Word(word) => Some(word),
        Token::Sign(_) => None,
    };
    tokens(source).into_iter().filter_map(word).collect()
}
