//! `srm-mirror completions`: what a shell needs to complete the commands.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Cli, print};

const EXAMPLES: &str = "\
Examples:
  srm-mirror completions bash > /etc/bash_completion.d/srm-mirror
  srm-mirror completions zsh > ~/.zfunc/_srm-mirror
  srm-mirror completions fish > ~/.config/fish/completions/srm-mirror.fish";

/// Print a script that completes the commands in a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    #[expect(clippy::unnecessary_wraps, reason = "every command runs alike")]
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let mut script: Vec<u8> = Vec::new();
        generate(self.shell, &mut Cli::command(), "srm-mirror", &mut script);
        print(&String::from_utf8_lossy(&script));
        Ok(0)
    }
}
