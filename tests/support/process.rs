//! The program as a child process: started on a free port, observed, signalled and killed.

#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

use crate::{forge::Forge, mirror::TestResponse, plain_client};

/// The only certificate authority that a started program trusts; it has signed nothing.
const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/authority.pem");

#[path = "dice.rs"]
mod dice;

pub use dice::Dice;

/// Longest wait for a process; only a failing test waits so long.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);

/// The command line and environment of the program. It inherits only `PATH`.
#[derive(Clone)]
pub struct Launch {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    wrapper: Vec<String>,
    /// What stands in place of its standard input.
    input: Option<Arc<OwnedFd>>,
}

/// A program that has exited or was ended by a signal.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` after a signal that was not caught.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A running `serve`. Dropping it kills it.
pub struct Process {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    child: Child,
    out: Captured,
    err: Captured,
}

/// A running command. Dropping it kills it.
pub struct Job {
    child: Child,
    out: Captured,
    err: Captured,
}

/// The output of one stream of the process so far.
struct Captured {
    text: watch::Receiver<String>,
    reading: JoinHandle<()>,
}

impl Launch {
    /// The program with these arguments and nothing else.
    pub fn bare(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self { arguments, environment: BTreeMap::new(), wrapper: Vec::new(), input: None }
    }

    /// `serve` on a free port with a forge and a cache directory, configured by variables.
    pub fn serve(forge: &Forge, dir: &Path) -> Self {
        Self::over(forge, dir, &["serve"])
    }

    /// A command with a forge and a cache directory, configured by variables.
    pub fn over(forge: &Forge, dir: &Path, arguments: &[&str]) -> Self {
        let known = srm_mirror::upstream::defaults();
        let mut launch = Self::bare(arguments);
        launch = launch.set("server.listen", "127.0.0.1:0").set("disk.dir", dir.to_str().expect("text"));
        for section in forge.sections().iter().filter(|section| known.contains_key(section.name)) {
            let key = |key: &str| format!("upstreams.{}.{key}", section.name);
            launch = launch.set(&key("api"), &section.api).set(&key("redirect_hosts"), &section.redirect_host);
            if let Some(web) = &section.web {
                launch = launch.set(&key("web"), web);
            }
        }
        launch
    }

    /// Sets a configuration key by its variable.
    pub fn set(self, key: &str, value: &str) -> Self {
        self.variable(&format!("SRM_MIRROR__{}", key.to_ascii_uppercase().replace('.', "__")), value)
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts the program through a wrapper that executes its last arguments.
    pub fn by_way_of(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// Passes a listening socket on as a service manager does that calls it `name`.
    pub fn with_socket(self, socket: &std::net::TcpListener, name: &str) -> Self {
        const SCRIPT: &str = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null";
        let mut launch = self.by_way_of(&["sh", "-c", SCRIPT, "sh"]).variable("LISTEN_FDNAMES", name);
        launch.input = Some(Arc::new(socket.try_clone().expect("a descriptor").into()));
        launch
    }

    /// The command, for a test that runs it itself.
    pub fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_srm-mirror").to_owned();
        let words: Vec<&String> = self.wrapper.iter().chain([&program]).chain(&self.arguments).collect();
        let input = self.input.as_ref().map(|input| input.try_clone().expect("a descriptor"));
        let input = input.map_or_else(Stdio::null, Stdio::from);
        let mut command = Command::new(words[0]);
        // To read the system's certificate authorities takes longer than the rest of a start.
        command.args(&words[1..]).env_clear().env("SSL_CERT_FILE", AUTHORITY).envs(&self.environment);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    fn spawn(&self) -> Child {
        self.command().spawn().expect("the program starts")
    }

    /// Starts a mirror and waits until it is ready.
    pub async fn start(self) -> Process {
        match self.try_start().await {
            Ok(process) => process,
            Err(ended) => panic!("the mirror did not start: {ended:?}"),
        }
    }

    /// As [`Launch::start`]; returns a program that exits instead.
    pub async fn try_start(self) -> Result<Process, Ended> {
        let mut child = self.spawn();
        let mut out = Captured::of(child.stdout.take().expect("piped"));
        let err = Captured::of(child.stderr.take().expect("piped"));
        if !out.wait_for_output("ready\n").await {
            return Err(ended(child, out, err).await);
        }
        let text = out.text();
        let address = text.lines().find_map(|line| line.strip_prefix("listening on http://")).expect("an address");
        let address = address.parse().expect("an address");
        let client = plain_client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.timeout(PROCESS_TIMEOUT).build().expect("a client");
        Ok(Process { address, client, child, out, err })
    }

    /// Runs the program to its end.
    pub async fn run(self) -> Ended {
        self.begin().ended().await
    }

    /// Starts the program.
    pub fn begin(self) -> Job {
        let mut child = self.spawn();
        let out = Captured::of(child.stdout.take().expect("piped"));
        let err = Captured::of(child.stderr.take().expect("piped"));
        Job { child, out, err }
    }
}

impl Job {
    /// `TERM`, `INT`, `KILL`.
    pub async fn signal(&self, name: &str) {
        send_signal(&self.child, name).await;
    }

    /// Waits until standard output contains `text`.
    pub async fn wait_for_output(&mut self, text: &str) {
        assert!(
            self.out.wait_for_output(text).await,
            "it ended without saying {text:?}: {}{}",
            self.out.text(),
            self.err.text()
        );
    }

    /// Sends SIGKILL, unless the program has already ended.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be waited for");
    }

    /// Waits until standard error contains `text`.
    pub async fn wait_for_error_output(&mut self, text: &str) {
        assert!(
            self.err.wait_for_output(text).await,
            "it ended without saying {text:?}: {}{}",
            self.out.text(),
            self.err.text()
        );
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// Waits for the end of the program.
    pub async fn ended(self) -> Ended {
        ended(self.child, self.out, self.err).await
    }
}

impl Process {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Fetches a complete response.
    pub async fn get(&self, path: &str) -> TestResponse {
        self.try_get(path).await.expect("a complete response")
    }

    /// Fetches a response; an error if it is incomplete.
    pub async fn try_get(&self, path: &str) -> Result<TestResponse, reqwest::Error> {
        let response = self.client.get(self.url(path)).send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Ok(TestResponse { status, headers, body: response.bytes().await? })
    }

    /// Receives the head of a response and leaves the body to the caller.
    pub async fn open(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.expect("a head")
    }

    /// The address of the listener for other nodes.
    pub fn node_address(&self) -> SocketAddr {
        let text = self.out.text();
        let address = text.lines().find_map(|line| line.strip_prefix("nodes on https://")).expect("an address");
        address.parse().expect("an address")
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("running")
    }

    /// `TERM`, `INT`.
    pub async fn signal(&self, name: &str) {
        send_signal(&self.child, name).await;
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(mut self) -> Ended {
        self.child.start_kill().expect("running");
        ended(self.child, self.out, self.err).await
    }

    /// Waits until the process ends.
    pub async fn ended(self) -> Ended {
        ended(self.child, self.out, self.err).await
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop(self) -> Ended {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits until the log contains `text`.
    pub async fn logs(&mut self, text: &str) {
        assert!(self.err.wait_for_output(text).await, "the process ended without saying {text:?}: {}", self.err.text());
    }

    pub fn out(&self) -> String {
        self.out.text()
    }

    pub fn err(&self) -> String {
        self.err.text()
    }
}

impl Captured {
    fn of(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, text) = watch::channel(String::new());
        let reading = tokio::spawn(async move {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).await.is_ok_and(|len| len > 0) {
                sender.send_modify(|text| text.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
        });
        Self { text, reading }
    }

    /// Waits until the output contains `wanted`; false if the stream ends first.
    async fn wait_for_output(&mut self, wanted: &str) -> bool {
        let waiting = self.text.wait_for(|text| text.contains(wanted));
        tokio::time::timeout(PROCESS_TIMEOUT, waiting).await.unwrap_or_else(|_| panic!("never said {wanted:?}")).is_ok()
    }

    fn text(&self) -> String {
        self.text.borrow().clone()
    }
}

async fn send_signal(child: &Child, name: &str) {
    let arguments = [format!("-{name}"), child.id().expect("running").to_string()];
    assert!(Command::new("kill").args(arguments).status().await.expect("kill").success());
}

async fn ended(mut child: Child, out: Captured, err: Captured) -> Ended {
    let status = tokio::time::timeout(PROCESS_TIMEOUT, child.wait()).await.expect("it ends in time").expect("a child");
    let _ = out.reading.await;
    let _ = err.reading.await;
    let text = |text: &watch::Receiver<String>| text.borrow().clone();
    Ended { code: status.code(), out: text(&out.text), err: text(&err.text) }
}

/// True for a hit in the store. A zip that is complete but not stored yet is lost by a kill.
pub fn is_stored(got: &TestResponse) -> bool {
    let status = got.cache_status();
    status.starts_with("srm-mirror; hit") && !status.contains("spool")
}

/// Every file below a directory with its length; files that vanish during the walk are skipped.
pub fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(stat) if stat.is_dir() => folders.push(entry.path()),
                Ok(stat) => found.push((entry.path(), stat.len())),
                Err(_) => {}
            }
        }
    }
    found
}

/// The space of all files below a directory in bytes, in whole blocks of 4 KiB.
pub fn space(dir: &Path) -> u64 {
    let taken = |(path, len): &(PathBuf, u64)| {
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            // Its space is allocated ahead of its content.
            return std::fs::metadata(path).map_or(0, |stat| std::os::unix::fs::MetadataExt::blocks(&stat) * 512);
        }
        len.div_ceil(4096) * 4096
    };
    files(dir).iter().map(taken).sum()
}

/// Number of files in the spool folder.
pub fn spooled(dir: &Path) -> usize {
    files(&dir.join("spool")).len()
}

/// The path of the zip with this digest.
pub fn blob(dir: &Path, sha256: &str) -> PathBuf {
    dir.join("blobs").join(&sha256[..2]).join(sha256)
}
