//! Runs the built program.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Longest wait for a line of a program; only a failing test waits so long.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// A command of the program in an empty environment, with this home.
pub(crate) fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_srm-mirror"));
    command.args(arguments).env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null());
    command
}

/// The exit code, standard output and standard error of a command that ends by itself.
pub(crate) fn ended(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A running `serve` or `demo`. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    /// What it printed up to and including `ready`.
    pub(crate) banner: Vec<String>,
}

impl Running {
    /// Starts a command and waits until it prints `ready`.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut running = Self { child, banner: Vec::new() };
        while running.banner.last().is_none_or(|line| line != "ready") {
            running.banner.push(lines.recv_timeout(LINE_TIMEOUT).expect("the program prints `ready`"));
        }
        running
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.banner.iter().find_map(|line| line.strip_prefix("listening on http://")).unwrap()
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
