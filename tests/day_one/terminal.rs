//! What a terminal shows: one short line per request, and bars that fit 60 columns and leave nothing behind.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use crate::run::{Running, ended, program};

/// The program on a pseudo-terminal of 60 columns, that of `script` (util-linux).
fn on_terminal(home: &Path, words: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_srm-mirror");
    let words: Vec<String> = [program].iter().chain(words).map(|word| format!("'{word}'")).collect();
    let mut command = Command::new("script");
    let inner = format!("stty cols {COLUMNS} rows 24; exec {}", words.join(" "));
    command.args(["-q", "-e", "-f", "-c", &inner, "/dev/null"]).env_clear();
    command.env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// The width of the terminal.
const COLUMNS: usize = 60;

/// What the terminal shows in the end, as far as bars use it: carriage return, line feed, lines that wrap, cursor up and
/// down, and erasing a line.
fn screen(text: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let mut row = 0;
    let mut column = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                chars.next_if_eq(&'[');
                let mut number = String::new();
                while let Some(digit) = chars.next_if(|c| c.is_ascii_digit() || ";?".contains(*c)) {
                    number.push(digit);
                }
                let count = number.parse::<usize>().unwrap_or(1);
                match chars.next() {
                    Some('A') => row -= count.min(row),
                    Some('B') => row += count,
                    Some('K') if number == "2" => lines[row].clear(),
                    Some('K') => lines[row].truncate(column),
                    _ => {}
                }
            }
            c => {
                // The line wraps with the character after the last column.
                if column == COLUMNS {
                    row += 1;
                    column = 0;
                    lines.resize(lines.len().max(row + 1), Vec::new());
                }
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

/// The output of a terminal as it comes.
struct Shown {
    child: Child,
    parts: mpsc::Receiver<String>,
    text: String,
}

impl Shown {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let (send, parts) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(len @ 1..) = out.read(&mut buf) {
                let _ = send.send(String::from_utf8_lossy(&buf[..len]).into_owned());
            }
        });
        Self { child, parts, text: String::new() }
    }

    /// Waits until the terminal has shown `wanted`.
    fn shows(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            match self.parts.recv_timeout(Duration::from_secs(60)) {
                Ok(part) => self.text += &part,
                Err(error) => panic!("{error}: {wanted:?} is not in {}", self.text),
            }
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        // Ctrl-C: the program outlives a `script` that is killed.
        if let Some(terminal) = &mut self.child.stdin {
            let _ = terminal.write_all(b"\x03");
        }
        while self.parts.recv_timeout(Duration::from_secs(20)).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(url: &str) {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--noproxy", "*", "-o", "/dev/null", url]);
    assert_eq!(ended(curl).0, 0, "{url}");
}

#[test]
fn a_request_is_one_short_line_and_the_first_screen_has_no_internal_event() {
    let home = tempfile::tempdir().unwrap();
    let mut shown = Shown::start(on_terminal(home.path(), &["demo", "--port", "0"]));
    shown.shows("ready\r\n");
    let address = shown.text.lines().find_map(|line| line.trim_end().strip_prefix("listening on ")).unwrap().to_owned();
    get(&format!("{address}/devsapp/fc3/zipball/v0.2.0"));
    shown.shows("GET /devsapp/fc3/zipball/v0.2.0");
    get(&format!("{address}/devsapp/none/releases"));
    shown.shows("GET /devsapp/none/releases");
    shown.shows(" ms  ");
    let (_, after) = shown.text.split_once("ready\r\n").unwrap();
    let lines: Vec<&str> = after.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("Z 200 GET ") && lines[0].contains("  miss 1.0 KiB "), "{lines:?}");
    assert!(lines[0].len() < 80, "{lines:?}");
    assert!(lines[1].contains("Z 404 GET ") && lines[1].contains("devsapp/none"), "{lines:?}");
}

#[test]
fn bars_fit_sixty_columns_and_leave_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let demo = Running::start(program(home.path(), &["demo", "--port", "0"]));
    let url = format!("http://{}", demo.address());
    let dir = home.path().join("cache");
    let dir = dir.to_str().unwrap();
    let bundle = home.path().join("bundle.tar");
    let bundle = bundle.to_str().unwrap();
    let api = format!("http://{}", demo.banner[0].rsplit('/').next().unwrap());
    let run = |words: &[&str]| {
        let mut command = on_terminal(home.path(), words);
        for (name, path) in [("GITHUB", "github"), ("OFFICIAL", "v3"), ("GITEE", "gitee"), ("OFFICIAL_2X", "simple")] {
            command.env(format!("SRM_MIRROR__UPSTREAMS__{name}__API"), format!("{api}/{path}"));
        }
        let (code, out, _) = ended(command);
        (code, screen(&out))
    };
    let text = |lines: &[String]| lines.iter().filter(|line| !line.is_empty()).cloned().collect::<String>();
    let (code, lines) = run(&["warm", "devsapp/fc3@all", "devsapp/none", "--cache-dir", dir]);
    assert_eq!(code, 1, "{lines:?}");
    let shown = text(&lines);
    assert!(shown.contains("3 fetched (") && shown.contains("1 failed") && !shown.contains('['), "{shown}");
    let (code, lines) = run(&["warm", "devsapp/fc3@all", "--server", &url]);
    assert!(code == 0 && !text(&lines).contains('['), "{lines:?}");
    for (words, end) in [
        (&["cache", "verify"][..], "0 damaged"),
        (&["cache", "export", bundle], "3 zips, "),
        (&["cache", "import", bundle], "3 zips were here already"),
    ] {
        let (code, lines) = run(&[words, &["--cache-dir", dir]].concat());
        let shown = text(&lines);
        assert!(code == 0 && shown.contains(end) && !shown.contains('['), "{words:?}: {shown}");
    }
    assert_eq!(demo.stop(), 0);
}
