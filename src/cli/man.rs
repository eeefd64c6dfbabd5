//! `srm-mirror man`: prints manual pages, made from the definitions of the commands.

use std::{fs, io, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use super::{Cli, UsageError, print};

/// The date of the pages: when a command or a flag last changed.
const PAGE_DATE: &str = "2026-11-29";

const MAN_EXAMPLES: &str = "\
Examples:
  srm-mirror man | man -l -
  srm-mirror man cache ls | man -l -
  srm-mirror man --dir /usr/local/share/man/man1";

/// Print a manual page, or write all of them to a directory
#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(super) struct ManCommand {
    /// Command whose page is printed, such as "cache ls" [default: the program's page]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands to this directory, which is made if it does not exist
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl ManCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let mut program = Cli::command().disable_help_subcommand(true);
        // Fills in the usage and the full name of every command.
        program.build();
        if let Some(dir) = &self.dir {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
            for (name, page) in pages(&program)? {
                let file = dir.join(format!("{name}.1"));
                fs::write(&file, page).with_context(|| format!("write {}", file.display()))?;
            }
            return Ok(0);
        }
        let mut command = &program;
        for word in &self.command {
            let found = command.find_subcommand(word);
            command = found.ok_or_else(|| UsageError(format!("{} has no command {word}", command.get_name())))?;
        }
        print(&page(command)?);
        Ok(0)
    }
}

/// The pages of a command and of all commands below it, with their names.
fn pages(command: &Command) -> io::Result<Vec<(String, String)>> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut found = vec![(name, page(command)?)];
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        found.extend(pages(command)?);
    }
    Ok(found)
}

fn page(command: &Command) -> io::Result<String> {
    let mut page = Vec::new();
    let source = concat!("srm-mirror ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).date(PAGE_DATE).source(source).manual("User Commands").render(&mut page)?;
    // The generator separates a list of values with two line breaks around an empty line.
    Ok(String::from_utf8_lossy(&page).replace("\n.br\n\n.br\n", "\n.sp\n"))
}
