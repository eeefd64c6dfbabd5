//! `srm-mirror completions`: prints a completion script for a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Cli, print};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  srm-mirror completions bash > /etc/bash_completion.d/srm-mirror
  srm-mirror completions zsh > ~/.zfunc/_srm-mirror
  srm-mirror completions fish > ~/.config/fish/completions/srm-mirror.fish";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsCommand {
    /// Shell that the script is for
    shell: Shell,
}

impl CompletionsCommand {
    #[expect(clippy::unnecessary_wraps, reason = "all commands have the same signature")]
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let mut script: Vec<u8> = Vec::new();
        generate(self.shell, &mut Cli::command().disable_help_subcommand(true), "srm-mirror", &mut script);
        let script = String::from_utf8_lossy(&script);
        // The generator writes the hyphen of the program's name in two ways, and the bash script then recognises no
        // subcommand. Other scripts do not have this word.
        print(&script.replace("srm__subcmd__mirror", "srm__mirror"));
        Ok(0)
    }
}
