//! The command line: one file per command, the shared flags and the exit codes.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    Args, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    app::OpenError,
    config::{ConfigError, Environment, Flag, Loaded},
    server::{InheritError, StartError, tls::TlsError},
    value::io_reason::without_error_number,
};

mod admin_args;
mod admin_client;
mod byte_bar;
mod cache;
mod completions;
mod config;
mod connect;
mod demo;
mod fleet;
mod health;
mod host;
mod lock_file;
mod man;
mod mirror_token;
mod mirror_url;
mod reload;
mod route;
mod serve;
mod service_manager;
mod shared;
mod status;
mod tls;
mod token;
mod versions;
mod warm;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use cache::fuzz_bundle;

/// The command ran and its result is negative: a route does not work, a package is missing, a zip is damaged.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// A certificate or key does not exist or cannot be read (`EX_NOINPUT`).
pub const NO_INPUT: u8 = 66;
/// A service or resource is unavailable: the address to listen on is taken, the mirror does not answer
/// (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// A bug in this program (`EX_SOFTWARE`).
pub const INTERNAL: u8 = 70;
/// The cache directory or another file cannot be read or written (`EX_IOERR`).
pub const IO: u8 = 74;
/// Base of the exit code after a signal that ended the program at once: the signal's number is added, as in shells.
pub const SIGNAL: u8 = 128;

const EXIT_CODES: &str = "\
Exit codes:
  0    success; serve: drained after SIGTERM or SIGINT
  1    connect --check: a route does not work; warm: a package or version is missing or refused;
       publish, delete, yank: refused, or publish.yaml and the files do not conform to the package model;
       cache: a zip is damaged, nothing matched, there is no room, or the user answered no;
       host: something published is damaged;
       shared: something in the bucket cannot be read
  64   invalid usage or configuration
  66   a certificate or key cannot be read
  69   an address to listen on is not available; connect --check, cache, reload, route, status, token, publish,
       delete, yank: the mirror cannot be reached;
       shared: the bucket cannot be used;
       warm: the mirror or an upstream cannot be reached
  70   a bug in this program
  74   the cache directory or another file cannot be used
  130  ended at once by a second SIGINT
  143  ended at once by a second SIGTERM";

/// A caching mirror that speaks the Serverless Registry Model over GitHub and Gitee releases.
#[derive(Debug, Parser)]
#[command(name = "srm-mirror", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeCommand),
    Completions(completions::CompletionsCommand),
    Cache(Box<cache::CacheCommand>),
    Config(config::ConfigCommand),
    Demo(demo::DemoCommand),
    Health(health::HealthCommand),
    Host(Box<host::HostCommand>),
    Man(man::ManCommand),
    Connect(connect::ConnectCommand),
    Reload(reload::ReloadCommand),
    Route(route::RouteCommand),
    Shared(Box<shared::SharedCommand>),
    Status(status::StatusCommand),
    Publish(versions::PublishCommand),
    Delete(versions::DeleteCommand),
    Yank(versions::YankCommand),
    Unyank(versions::UnyankCommand),
    Tls(tls::TlsCommand),
    Token(token::TokenCommand),
    /// Print the version, as --version
    #[command(after_help = "Example: srm-mirror version")]
    Version,
    Warm(warm::WarmCommand),
}

/// Flags of commands that use the whole configuration.
#[derive(Debug, Default, Args)]
struct ServeArgs {
    #[command(flatten)]
    cache: CacheArgs,
    /// Address to listen on, with port; can be repeated [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Port to listen on, for this machine alone: the same as --listen 127.0.0.1:PORT
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    port: Option<u16>,
    /// Public URL of the mirror; zipball_url in responses begins with it
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

/// Flags of commands that work on a cache directory.
#[derive(Clone, Debug, Default, Args)]
struct CacheArgs {
    /// Configuration file [default: the file that SRM_MIRROR_CONFIG names, or none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Cache directory [default: srm-mirror in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<String>,
    /// Log format
    #[arg(long, value_name = "FORMAT", value_parser = ["auto", "text", "json"])]
    log_format: Option<String>,
    /// Log level: error, warn, info, debug, trace, off, or a filter
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl CacheArgs {
    fn load(&self) -> Result<Loaded, ConfigError> {
        ServeArgs { cache: self.clone(), ..ServeArgs::default() }.load()
    }
}

impl ServeArgs {
    fn load(&self) -> Result<Loaded, ConfigError> {
        let listen = (!self.listen.is_empty()).then(|| self.listen.clone().into());
        let port = self.port.map(|port| vec![format!("127.0.0.1:{port}")].into());
        let text = |value: &Option<String>| value.clone().map(toml::Value::from);
        let flags = [
            ("--listen", "server.listen", listen),
            ("--port", "server.listen", port),
            ("--cache-dir", "disk.dir", text(&self.cache.cache_dir)),
            ("--public-url", "server.public_url", text(&self.public_url)),
            ("--log-format", "log.format", text(&self.cache.log_format)),
            ("--log-level", "log.level", text(&self.cache.log_level)),
        ];
        let flags = flags.into_iter().filter_map(|(name, key, value)| Some(Flag { name, key, value: value? }));
        let flags: Vec<Flag> = flags.collect();
        crate::config::load(self.cache.config.as_deref(), &Environment::of_process(), &flags)
    }
}

/// Runs the command that the process's arguments name, and returns the exit code.
pub fn run() -> ExitCode {
    ExitCode::from(run_with(std::env::args_os()))
}

fn run_with(arguments: impl Iterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(mut error) => {
            mask_passwords(&mut error);
            let requested = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A write error cannot be reported: the terminal is gone.
            let _ = error.print();
            return if requested { 0 } else { USAGE };
        }
    };
    let result = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Cache(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Connect(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Health(command) => command.run(),
        Command::Host(command) => command.run(),
        Command::Man(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::Route(command) => command.run(),
        Command::Shared(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Publish(command) => command.run(),
        Command::Delete(command) => command.run(),
        Command::Yank(command) => command.run(),
        Command::Unyank(command) => command.run(),
        Command::Tls(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Version => {
            print(concat!("srm-mirror ", env!("CARGO_PKG_VERSION"), "\n"));
            Ok(0)
        }
        Command::Warm(command) => command.run(),
    };
    result.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "srm-mirror: {}", error_line(&error));
        exit_code(&error)
    })
}

/// Masks the user and password of a URL in the value that an error of the arguments repeats.
fn mask_passwords(error: &mut clap::Error) {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let masked = crate::config::without_password(text);
            error.insert(kind, ContextValue::String(masked));
        }
    }
}

/// Escapes control characters, invisible characters and changes of the writing direction, so that a text from elsewhere
/// cannot control the terminal.
fn escape_terminal(text: &str) -> String {
    let controls = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if controls(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// As [`escape_terminal`], but keeps line feeds.
fn escape_terminal_lines(text: &str) -> String {
    text.split('\n').map(escape_terminal).collect::<Vec<_>>().join("\n")
}

/// The error and its causes, separated by colons. A cause with which the text of its error ends is not repeated.
fn error_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = without_error_number(&text);
        if !parts.last().is_some_and(|part| part.ends_with(text)) {
            parts.push(text.to_owned());
        }
        // The messages of these errors include their causes.
        if cause.is::<ConfigError>() || cause.is::<StartError>() {
            break;
        }
    }
    escape_terminal_lines(&parts.join(": "))
}

/// The exit code by the causes of an error.
fn exit_code(error: &anyhow::Error) -> u8 {
    let is = |matches: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(matches);
    let usage = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<ConfigError>()
            || cause.is::<UsageError>()
            || cause.is::<InheritError>()
            || matches!(cause.downcast_ref(), Some(OpenError::Limit { .. }))
            || cause.is::<mirror_token::MirrorTokenError>()
            || connect::is_usage(cause)
            || host::is_usage(cause)
            || shared::is_usage(cause)
            || versions::is_usage(cause)
            || warm::is_usage(cause)
    };
    if is(usage) {
        USAGE
    } else if let Some(refused) = error.chain().find_map(|cause| cause.downcast_ref::<admin_client::AdminRefusal>()) {
        refused.exit_code()
    } else if is(|cause| {
        cause.is::<admin_client::Unavailable>()
            || connect::is_unreachable(cause)
            || host::is_unavailable(cause)
            || shared::is_unavailable(cause)
    }) {
        UNAVAILABLE
    } else if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<tls::TlsInitError>()) {
        error.exit_code()
    } else if let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<StartError>()) {
        match error {
            StartError::Bind(_) => UNAVAILABLE,
            StartError::Tls(TlsError::Unreadable { .. }) => NO_INPUT,
            StartError::Tls(_) => USAGE,
        }
    } else if is(|cause| cause.is::<io::Error>() || cause.is::<OpenError>() || host::is_io(cause)) {
        IO
    } else {
        INTERNAL
    }
}

/// The arguments cannot be carried out (`EX_USAGE`); the message is for the user.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Writes to standard output; a closed pipe is not an error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod document_tests;

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::{admin_api::ErrorCode, server::BindError};

    fn run(arguments: &[&str]) -> u8 {
        run_with(std::iter::once("srm-mirror").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn invalid_usage_is_exit_code_64_and_help_is_0() {
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
    fn the_exit_code_depends_on_the_cause_of_the_error() {
        let io = || io::Error::other("no");
        let bind = BindError { address: ([127, 0, 0, 1], 1).into(), source: io() };
        let bind = anyhow::Error::from(StartError::from(bind)).context("start");
        assert_eq!(
            (exit_code(&bind), error_line(&bind).as_str()),
            (UNAVAILABLE, "start: cannot listen on 127.0.0.1:1: no")
        );
        assert_eq!(exit_code(&Err::<(), _>(io()).context("open").expect_err("error")), IO);
        assert_eq!(exit_code(&anyhow::anyhow!("what")), INTERNAL);
        for (code, expected) in [
            (ErrorCode::BadRequest, USAGE),
            (ErrorCode::InvalidImport, USAGE),
            (ErrorCode::NotStored, FAILED),
            (ErrorCode::Conflict, FAILED),
            (ErrorCode::NoSpace, FAILED),
            (ErrorCode::NoMemory, FAILED),
            (ErrorCode::Storage, IO),
        ] {
            let refused = admin_client::AdminRefusal { code, message: "no".into() };
            let refused = anyhow::Error::from(refused).context("import x");
            assert_eq!((exit_code(&refused), error_line(&refused).as_str()), (expected, "import x: no"), "{code:?}");
        }
        assert_eq!(exit_code(&admin_client::Unavailable("gone".into()).into()), UNAVAILABLE);
    }

    #[test]
    fn a_cause_that_an_error_has_in_its_text_is_named_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("--file none: {source}")]
        struct Unreadable {
            source: io::Error,
        }
        let unreadable = anyhow::Error::from(Unreadable { source: io::Error::from_raw_os_error(2) }).context("warm");
        assert_eq!(error_line(&unreadable), "warm: --file none: No such file or directory");
    }

    #[test]
    fn no_error_of_the_arguments_repeats_a_password() {
        let address = "https://user:secret@mirror.example";
        for arguments in [&["warm", "--server", address, "a/b"][..], &["connect", address], &["serve", address]] {
            let arguments = std::iter::once(&"srm-mirror").chain(arguments);
            let mut error = Cli::try_parse_from(arguments).expect_err("no such address");
            mask_passwords(&mut error);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn terminal_control_characters_in_errors_are_escaped() {
        let hostile = anyhow::anyhow!("no \u{1b}[2J\u{9b}31m\u{202e}\r\u{7} ä\nnext");
        assert_eq!(error_line(&hostile), "no \\u{1b}[2J\\u{9b}31m\\u{202e}\\r\\u{7} ä\nnext");
        assert_eq!(escape_terminal("a\nb\tc"), "a\\nb\\tc");
    }

    #[test]
    fn the_completions_of_every_shell_have_the_commands() {
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
        fn check(command: &clap::Command) {
            if command.get_subcommands().next().is_some() {
                return command.get_subcommands().for_each(check);
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains("srm-mirror "), "{}: {help}", command.get_name());
        }
        check(&Cli::command());
    }

    #[test]
    fn the_command_definitions_pass_the_debug_checks_of_clap() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
