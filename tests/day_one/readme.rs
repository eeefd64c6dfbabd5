//! README.md copied from top to bottom in an empty home: every command of its console blocks, in order, with its output.

use std::{fs, path::Path, process::Command};

use crate::run::{Running, ended, program};

/// A command of a console block, and the lines that stand below it.
struct Step {
    /// Without its prompt and its comment.
    command: String,
    output: Vec<String>,
    /// True for the prompt `#`, of root.
    is_root: bool,
}

fn steps(text: &str) -> Vec<Step> {
    let blocks = text.split("\n```console\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks.flat_map(str::lines) {
        let typed = line.strip_prefix("$ ").map(|command| (command, false));
        let typed = typed.or_else(|| line.strip_prefix("# ").map(|command| (command, true)));
        match typed {
            Some((command, is_root)) => {
                let command = command.split("  #").next().unwrap().trim().to_owned();
                steps.push(Step { command, output: Vec::new(), is_root });
            }
            None if line.is_empty() => {}
            None => steps.last_mut().expect("a command precedes its output").output.push(line.to_owned()),
        }
    }
    steps
}

/// A line of output without what differs each time: ports, the temporary directory, the date, the id, the age.
fn masked(line: &str) -> String {
    for name in ["date: ", "x-request-id: ", "age: "] {
        if line.starts_with(name) {
            return format!("{name}…");
        }
    }
    // This test asks again before the zip has left the spool; a person does not.
    let line = line.replace("hit; detail=spool", "hit; detail=memory");
    let mut words = Vec::new();
    for word in line.split(' ') {
        let word = match word.find("127.0.0.1:") {
            Some(at) => {
                let rest = word[at + "127.0.0.1:".len()..].trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{}127.0.0.1:PORT{rest}", &word[..at])
            }
            None => word.to_owned(),
        };
        words.push(if word.contains("/srm-mirror-demo-") { "DIR,".to_owned() } else { word });
    }
    words.join(" ")
}

fn masked_all(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| masked(line)).collect()
}

/// Runs a command in a shell with `home` as home and working directory, and returns the lines of its output.
fn shell(home: &Path, command: &str) -> Vec<String> {
    let mut shell = Command::new("sh");
    let path = std::env::var("PATH").unwrap_or_default();
    shell.args(["-ec", command]).current_dir(home).env_clear().env("HOME", home).env("PATH", path);
    shell.env("no_proxy", "*");
    let (code, out, err) = ended(shell);
    assert_eq!(code, 0, "{command}: {out}{err}");
    out.replace('\r', "").lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn readme_copied_from_top_to_bottom_works() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut demo: Option<Running> = None;
    let mut compared = 0;
    for Step { command, output, is_root } in steps(&text) {
        match command.split_whitespace().collect::<Vec<_>>().as_slice() {
            // What the first block builds is the program that this test runs; `.ci/run` runs the second command itself.
            ["cargo", ..] => {
                let known = ["cargo run --release -- serve", "cargo test", "cargo install --locked --path ."];
                assert!(known.contains(&command.as_str()), "{command}");
                let program = Running::start(program(home.path(), &["serve", "--port", "0"]));
                assert_eq!(program.stop(), 0);
            }
            ["srm-mirror", "demo"] => {
                let mut command = program(home.path(), &["demo", "--port", "0"]);
                // What it leaves behind is found below.
                command.env("TMPDIR", home.path());
                let started = Running::start(command);
                assert_eq!(masked_all(&started.banner), masked_all(&output));
                compared += 1;
                demo = Some(started);
            }
            ["curl", .., url] if url.contains("127.0.0.1:8080") => {
                let demo = demo.as_ref().expect("the demo runs");
                let seen = shell(home.path(), &command.replace("127.0.0.1:8080", demo.address()));
                assert_eq!(masked_all(&seen), masked_all(&output), "{command}: {seen:#?}");
                compared += 1;
            }
            // The example host stands for the reader's own.
            ["srm-mirror", "connect", "http://mirror.example.com:8080", ..] => {
                let demo = demo.as_ref().expect("the demo runs");
                let command = command.replace("http://mirror.example.com:8080", &format!("http://{}", demo.address()));
                let arguments: Vec<&str> = command.split(' ').skip(1).collect();
                let (code, out, err) = ended(program(home.path(), &arguments));
                assert_eq!(code, 0, "{command}: {out}{err}");
            }
            // A real client: tests/clients/run has it.
            ["s", ..] => {}
            // `.ci/full` runs it.
            ["packaging/build"] => assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build").exists()),
            // These change the machine. `packaging/build` installs the package and starts the service in a clean root.
            _ if is_root => {}
            _ => panic!("this test does not know how to run: {command}"),
        }
    }
    assert!(compared >= 4, "README.md has lost its outputs");
    assert_eq!(demo.expect("README.md starts the demo").stop(), 0);
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| [".cache", "fc3.zip"].contains(&name.to_str().unwrap())), "{left:?}");
}

#[test]
fn masks_hide_what_differs_and_nothing_else() {
    assert_eq!(masked("listening on http://127.0.0.1:8080"), masked("listening on http://127.0.0.1:40123"));
    assert_ne!(masked("cache-status: a; hit"), masked("cache-status: a; fwd=miss"));
}
