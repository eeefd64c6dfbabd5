//! A soak test: the real mirror with small limits on one directory, a forge behind a proxy that disturbs every second
//! connection, clients of all kinds, administration, and kill -9 every few seconds.
//!
//! Every zip, view, range and list is compared with what the forge has. At the end, undisturbed, every package must
//! answer, the mirror must end cleanly, and nothing that is stored may be damaged. Exit code 1 on any violation.
//!
//! `cargo build --workspace --bins, then target/debug/soak --mirror target/debug/srm-mirror --seconds 60`
#![allow(clippy::unwrap_used)]

#[path = "soak/administration.rs"]
mod administration;
#[path = "soak/answers.rs"]
mod answers;
#[path = "soak/chaos.rs"]
mod chaos;
#[path = "soak/client.rs"]
mod client;
#[path = "soak/content.rs"]
mod content;
#[path = "../tests/support/dice.rs"]
mod dice;
#[path = "soak/final_round.rs"]
mod final_round;
#[path = "../tests/support/forge.rs"]
mod forge;
#[path = "soak/line.rs"]
mod line;
#[path = "soak/process_samples.rs"]
mod process_samples;
#[path = "soak/run.rs"]
mod run;
#[path = "soak/served_mirror.rs"]
mod served_mirror;
#[path = "soak/summary.rs"]
mod summary;
#[path = "soak/tally.rs"]
mod tally;
#[path = "soak/zip_entries.rs"]
mod zip_entries;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Disturbs, kills and restarts a mirror under load, and compares every answer.
#[derive(Clone, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// The mirror's executable.
    #[arg(long, value_name = "PATH")]
    mirror: PathBuf,
    /// Time of the load; the checks at the end take some seconds more.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Repeats the schedule of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Number of clients.
    #[arg(long, default_value_t = 24)]
    clients: u64,
    /// Directory for the cache, the configuration and the log, which is kept; a temporary one by default.
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Prints one JSON object in place of the line.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run::run(&arguments).await {
        Ok(summary) => {
            if arguments.json {
                println!("{}", summary.json());
            } else {
                println!("{}", summary.line());
            }
            if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
