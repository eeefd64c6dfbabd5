//! The command line: one file per command, and the exit codes they share.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    app::OpenError,
    config::{ConfigError, Environment, Flag, Loaded},
    server::{StartError, tls::TlsError},
};

mod admin_client;
mod atomic_file;
mod cache;
mod completions;
mod config;
mod connect;
mod serve;
mod tls;
mod warm;

/// What was to be found out is not so: a route does not work.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// A file that was named is not there or cannot be read (`EX_NOINPUT`).
pub const NO_INPUT: u8 = 66;
/// Something that is needed is not there: an address to listen on is taken (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// Our own fault (`EX_SOFTWARE`).
pub const INTERNAL: u8 = 70;
/// The cache directory or another file cannot be used (`EX_IOERR`).
pub const IO: u8 = 74;
/// Added to a signal's number when it ended the program at once, as shells count.
pub const SIGNAL: u8 = 128;

const EXIT_CODES: &str = "\
Exit codes:
  0    done; for serve: drained after SIGTERM or SIGINT
  1    connect --check: a route does not work; warm: something is not there;
       cache: something is damaged, nothing was there, there is no room for it, or the answer was no
  64   wrong usage or configuration
  66   a certificate or key cannot be read
  69   an address to listen on is not available; connect --check, cache: the mirror cannot be reached; warm: nor an
       upstream
  70   a fault of the program itself
  74   the cache directory or another file cannot be used
  130  ended at once by a second SIGINT
  143  ended at once by a second SIGTERM";

/// A caching mirror that speaks the Serverless Registry Model over GitHub and Gitee releases.
#[derive(Debug, Parser)]
#[command(name = "srm-mirror", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Completions(completions::Completions),
    Cache(Box<cache::Cache>),
    Config(config::Config),
    Connect(connect::Connect),
    Tls(tls::Tls),
    Warm(warm::Warm),
}

/// Flags that set configuration, for commands that serve or show all of it.
#[derive(Debug, Default, Args)]
struct ServeArgs {
    #[command(flatten)]
    place: CacheArgs,
    /// Address to listen on, with port; can be repeated [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// The address clients know the mirror by
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

/// Flags for commands that work on a cache directory and serve nobody.
#[derive(Clone, Debug, Default, Args)]
struct CacheArgs {
    /// Configuration file [else the one that SRM_MIRROR_CONFIG names, else none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the cache is [default: srm-mirror in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<String>,
    /// auto, text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// error, warn, info, debug, trace, off, or a filter
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl CacheArgs {
    fn load(&self) -> Result<Loaded, ConfigError> {
        ServeArgs { place: self.clone(), ..ServeArgs::default() }.load()
    }
}

impl ServeArgs {
    fn load(&self) -> Result<Loaded, ConfigError> {
        let listen = (!self.listen.is_empty()).then(|| self.listen.clone().into());
        let text = |value: &Option<String>| value.clone().map(toml::Value::from);
        let flags = [
            ("--listen", "server.listen", listen),
            ("--cache-dir", "disk.dir", text(&self.place.cache_dir)),
            ("--public-url", "server.public_url", text(&self.public_url)),
            ("--log-format", "log.format", text(&self.place.log_format)),
            ("--log-level", "log.level", text(&self.place.log_level)),
        ];
        let flags = flags.into_iter().filter_map(|(name, key, value)| Some(Flag { name, key, value: value? }));
        let flags: Vec<Flag> = flags.collect();
        crate::config::load(self.place.config.as_deref(), &Environment::of_process(), &flags)
    }
}

/// Runs the command that the program's arguments name.
pub fn run() -> ExitCode {
    ExitCode::from(run_with(std::env::args_os()))
}

fn run_with(arguments: impl Iterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(why) => {
            let asked = matches!(why.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nobody is left to tell when the terminal is gone.
            let _ = why.print();
            return if asked { 0 } else { USAGE };
        }
    };
    let done = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Cache(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Connect(command) => command.run(),
        Command::Tls(command) => command.run(),
        Command::Warm(command) => command.run(),
    };
    done.unwrap_or_else(|why| {
        let _ = writeln!(io::stderr(), "srm-mirror: {}", sentence(&why));
        exit_code(&why)
    })
}

/// A text that may be another's, as a terminal may have it: what would steer the terminal or turn its writing around is
/// escaped.
fn escape_terminal(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// As [`escape_terminal`], for a text of several lines.
fn visible_lines(text: &str) -> String {
    text.split('\n').map(escape_terminal).collect::<Vec<_>>().join("\n")
}

/// The error and its causes in one line.
fn sentence(why: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in why.chain() {
        parts.push(cause.to_string());
        // These say everything already, for a person; the system's own words would only be added to it.
        if cause.is::<ConfigError>() || cause.is::<StartError>() {
            break;
        }
    }
    visible_lines(&parts.join(": "))
}

fn exit_code(why: &anyhow::Error) -> u8 {
    let is = |found: fn(&(dyn std::error::Error + 'static)) -> bool| why.chain().any(found);
    let limit = |why: &(dyn std::error::Error + 'static)| {
        matches!(why.downcast_ref::<OpenError>(), Some(OpenError::Limit { .. }))
    };
    let start = why.chain().find_map(|why| why.downcast_ref::<StartError>());
    let refused = why.chain().find_map(|why| why.downcast_ref::<admin_client::Refused>());
    let usage = |why: &(dyn std::error::Error + 'static)| {
        why.is::<ConfigError>() || why.is::<Wrong>() || connect::is_usage(why) || warm::is_usage(why)
    };
    if why.chain().any(usage) || why.chain().any(limit) {
        USAGE
    } else if let Some(refused) = refused {
        refused.exit_code()
    } else if is(|why| why.is::<admin_client::Unavailable>() || connect::is_unreachable(why)) {
        UNAVAILABLE
    } else if let Some(why) = why.chain().find_map(|why| why.downcast_ref::<tls::InitError>()) {
        why.exit_code()
    } else if let Some(start) = start {
        match start {
            StartError::Bind(_) => UNAVAILABLE,
            StartError::Tls(TlsError::Unreadable { .. }) => NO_INPUT,
            StartError::Tls(_) => USAGE,
        }
    } else if is(|why| why.is::<io::Error>() || why.is::<OpenError>()) {
        IO
    } else {
        INTERNAL
    }
}

/// What was typed cannot be done (`EX_USAGE`); a sentence for whoever typed it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

/// Writes to standard output; a reader that has gone is no error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::server::BindError;

    fn run(arguments: &[&str]) -> u8 {
        run_with(std::iter::once("srm-mirror").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn wrong_usage_is_64_and_help_is_0() {
        for arguments in [
            &["--help"][..],
            &["--version"],
            &["serve", "--help"],
            &["config", "show", "--help"],
            &["warm", "--help"],
            &["completions", "bash"],
        ] {
            assert_eq!(run(arguments), 0, "{arguments:?}");
        }
        for arguments in [&[][..], &["sevre"], &["serve", "--nope"], &["config"], &["config", "check", "no.toml"]]
            .into_iter()
            .chain([&["cache", "ls", "--listen", "127.0.0.1:0"][..], &["cache", "gc", "--unused", "1 fortnight"]])
        {
            assert_eq!(run(arguments), USAGE, "{arguments:?}");
        }
        for arguments in [["--listen", "localhost"], ["--log-format", "xml"], ["--public-url", "x"]] {
            assert_eq!(run(&[&["serve"], &arguments[..]].concat()), USAGE, "{arguments:?}");
        }
    }

    #[test]
    fn the_exit_code_follows_the_cause() {
        let io = || io::Error::other("no");
        let bind = BindError { address: ([127, 0, 0, 1], 1).into(), source: io() };
        let bind = anyhow::Error::from(StartError::from(bind)).context("start");
        assert_eq!(
            (exit_code(&bind), sentence(&bind).as_str()),
            (UNAVAILABLE, "start: cannot listen on 127.0.0.1:1: no")
        );
        assert_eq!(exit_code(&Err::<(), _>(io()).context("open").expect_err("error")), IO);
        assert_eq!(exit_code(&anyhow::anyhow!("what")), INTERNAL);
        for (status, code) in [(400, USAGE), (422, USAGE), (404, FAILED), (409, FAILED), (507, FAILED), (500, IO)] {
            let status = http::StatusCode::from_u16(status).expect("a status");
            let refused =
                anyhow::Error::from(admin_client::Refused { status, message: "no".into() }).context("import x");
            assert_eq!((exit_code(&refused), sentence(&refused).as_str()), (code, "import x: no"), "{status}");
        }
        assert_eq!(exit_code(&admin_client::Unavailable("gone".into()).into()), UNAVAILABLE);
    }

    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        let hostile = anyhow::anyhow!("no \u{1b}[2J\u{9b}31m\u{202e}\r\u{7} ä\nnext");
        assert_eq!(sentence(&hostile), "no \\u{1b}[2J\\u{9b}31m\\u{202e}\\r\\u{7} ä\nnext");
        assert_eq!(escape_terminal("a\nb\tc"), "a\\nb\\tc");
    }

    #[test]
    fn every_shell_has_completions_that_know_the_commands() {
        use clap::CommandFactory as _;
        use clap::ValueEnum as _;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "srm-mirror", &mut script);
            assert!(String::from_utf8_lossy(&script).contains("unkeep"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_an_example_in_its_help() {
        use clap::CommandFactory as _;
        fn look(command: &clap::Command) {
            if command.get_subcommands().next().is_some() {
                return command.get_subcommands().for_each(look);
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains("srm-mirror "), "{}: {help}", command.get_name());
        }
        look(&Cli::command());
    }

    #[test]
    fn clap_finds_no_fault_with_the_commands() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
