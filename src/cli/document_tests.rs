//! Every command line of `srm-mirror` in README.md and `docs/` is one that the program accepts.

use std::{fs, path::Path};

use clap::Parser as _;

use super::Cli;

/// The documents with commands.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).expect("a folder").map(|entry| entry.expect("a file").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let read = |path: std::path::PathBuf| (path.display().to_string(), fs::read_to_string(&path).expect("text"));
    [root.join("README.md")].into_iter().chain(pages).map(read).collect()
}

/// The commands of a document's console blocks, without their prompt: `$ ` for a user, `# ` for root.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("\n```console\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let lines = blocks.flat_map(str::lines);
    lines.filter_map(|line| line.strip_prefix("$ ").or(line.strip_prefix("# "))).map(str::to_owned).collect()
}

/// The words of a command as a shell splits them, up to a comment, a pipe or a redirection.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | '<' | '&' | ';') => break,
            (None, ' ') => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_of_the_documents_is_accepted() {
    let mut seen = 0;
    for (path, text) in documents() {
        for command in commands(&text) {
            let words = words(&command);
            let is_assignment = |word: &&String| word.contains('=') && !word.starts_with('-');
            let words: Vec<&String> = words.iter().skip_while(is_assignment).collect();
            if words.first().is_some_and(|program| *program == "srm-mirror") {
                seen += 1;
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{path}: {command}\n{}", parsed.expect_err("an error"));
            }
            let unquoted = words.iter().skip(1).any(|word| word.contains(['*', '?']));
            let quoted = !unquoted || command.contains('\'') || command.contains('"');
            assert!(quoted, "{path}: {command}: the shell expands an unquoted pattern");
        }
    }
    assert!(seen > 20, "the documents have lost their commands: {seen}");
}

#[test]
fn words_are_those_of_a_shell() {
    assert_eq!(words("a 'b c' --d=\"e\" # f"), ["a", "b c", "--d=e"]);
    assert_eq!(words("a b | c"), ["a", "b"]);
    assert_eq!(words("a '#' x#y > z"), ["a", "#", "x#y"]);
}
