//! The mirror as a child process, and its commands.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use super::forge::Forge;

/// Longest wait for a start, for an end and for a command.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(60);

/// Limits of the mirror, bytes.
pub(crate) const MEMORY_LIMIT: u64 = 256 << 20;
pub(crate) const DISK_LIMIT: u64 = 24 << 20;

/// The program with its configuration and its directory.
#[derive(Clone)]
pub(crate) struct MirrorProgram {
    program: PathBuf,
    work: PathBuf,
}

/// A running mirror. Dropping it kills it.
pub(crate) struct ServedMirror {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// A command that has ended.
pub(crate) struct CommandEnd {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
}

impl MirrorProgram {
    /// Writes the configuration below `work`: small limits, short periods, the forge behind its proxy.
    pub(crate) fn new(program: &Path, work: &Path, forge: &Forge) -> io::Result<Self> {
        let known = srm_mirror::upstream::defaults();
        let mut config = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nheader_timeout = \"5s\"\nsend_timeout = \"5s\"\ndrain = \"10s\"\n\
             [memory]\nlimit = \"{MEMORY_LIMIT}B\"\narchives = \"4MiB\"\narchive_max = \"256KiB\"\n\
             [disk]\ndir = {:?}\nlimit = \"{DISK_LIMIT}B\"\ndocuments = \"2MiB\"\nscrub = \"10s\"\n\
             [documents]\nfresh_anonymous = \"1s\"\nstale_while_revalidate = \"2s\"\npatience = \"500ms\"\n\
             negative = \"1s\"\ncooldown = \"1s\"\nbranch = \"1s\"\n\
             [log]\nlevel = \"error\"\nformat = \"text\"\n",
            work.join("cache"),
        );
        for section in forge.sections().iter().filter(|section| known.contains_key(section.name)) {
            let web = section.web.as_ref().map(|web| format!("web = \"{web}\"\n")).unwrap_or_default();
            config += &format!(
                "[upstreams.{}]\napi = \"{}\"\n{web}redirect_hosts = [\"{}\"]\nconnect_timeout = \"2s\"\n\
                 response_timeout = \"2s\"\nidle_timeout = \"2s\"\ntotal_timeout = \"8s\"\nqueue_timeout = \"3s\"\n\
                 concurrency = 8\ndownloads = 6\n",
                section.name, section.api, section.redirect_host
            );
        }
        fs::write(work.join("mirror.toml"), config)?;
        Ok(Self { program: program.to_owned(), work: work.to_owned() })
    }

    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.work.join("cache")
    }

    /// What all mirrors have written to standard error.
    pub(crate) fn log(&self) -> String {
        fs::read(self.work.join("mirror.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn command(&self, words: &[&str]) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--config").arg(self.work.join("mirror.toml")).env_clear();
        command.current_dir(&self.work).stdin(Stdio::null()).stdout(Stdio::piped());
        let log = File::options().create(true).append(true).open(self.work.join("mirror.log"))?;
        command.stderr(log);
        Ok(command)
    }

    /// Starts a mirror and waits until it is ready. Blocks.
    pub(crate) fn start(&self, has_public_url: bool) -> io::Result<ServedMirror> {
        let mut words = vec!["serve"];
        if has_public_url {
            words.extend(["--public-url", "http://mirror.example.com"]);
        }
        let mut child = self.command(&words)?.spawn()?;
        let out = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let (lines, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut mirror = ServedMirror { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let until = Instant::now() + PROCESS_TIMEOUT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = said.recv_timeout(left).map_err(|_| io::Error::other("the mirror is not ready"))?;
            if let Some(address) = line.strip_prefix("listening on http://") {
                mirror.address = address.parse().map_err(io::Error::other)?;
            }
            if line == "ready" {
                return Ok(mirror);
            }
        }
    }

    /// Runs a command to its end. Blocks; an error after [`PROCESS_TIMEOUT`].
    pub(crate) fn run(&self, words: &[&str]) -> io::Result<CommandEnd> {
        let mut child = self.command(words)?.spawn()?;
        let mut out = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let reading = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = io::Read::read_to_end(&mut out, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let status = wait(&mut child).map_err(|error| io::Error::other(format!("{words:?}: {error}")))?;
        Ok(CommandEnd { status, out: reading.join().unwrap_or_default() })
    }
}

/// Waits for a process; kills it when it takes too long.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let until = Instant::now() + PROCESS_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl ServedMirror {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True while it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as kill -9 does. Blocks.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        wait(&mut self.child).map(drop)
    }

    /// Sends SIGTERM and waits for the end. Blocks.
    pub(crate) fn stop(mut self) -> io::Result<ExitStatus> {
        Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        wait(&mut self.child)
    }
}

impl Drop for ServedMirror {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
