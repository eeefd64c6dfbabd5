//! `srm-mirror token`: the tokens of the mirror's clients.

use std::{
    io::{self, Write as _},
    str::FromStr,
};

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValue};
use jiff::{SignedDuration, Timestamp};

use super::{admin_args::AdminArgs, admin_client, cache::ensure_cache_dir_exists, escape_terminal_lines, print};
use crate::{
    admin_api::{CreateToken, CreatedToken, ListTokens, RevokeToken, Right, RotateSigningKey, TokenRow},
    value::Period,
};

const TOKEN_HELP: &str = "\
Examples:
  srm-mirror token create --name ci --scope read --packages 'devsapp/*' --expires 90d
  srm-mirror token create --name anna --cli
  srm-mirror token list
  srm-mirror token revoke ci

A token has an effect while access.enabled is true. What it may read is decided by the [[access.rules]] tables, where
its name is token:NAME; scope and packages only narrow that. The commands work while the mirror runs, through
control.sock in its cache directory, and without it; a running mirror takes changes at once. With --server URL they work
from elsewhere, where access.remote_admin is on.";

const CREATE_HELP: &str = "\
Example: srm-mirror token create --name ci --packages 'devsapp/*' --expires 90d

The token is printed once, on standard output. The mirror stores its SHA-256, except with --cli: the 3.x command line
client signs its requests with the token, so the mirror stores it in clear, in a file that only its owner can read.

Use it as: curl -H 'Authorization: Bearer TOKEN', as the password of any user name, or with
s registry login --token TOKEN (created with --cli).";

/// Create, list and revoke the tokens of clients
#[derive(Debug, Args)]
#[command(after_help = TOKEN_HELP)]
pub(super) struct TokenCommand {
    #[command(subcommand)]
    action: TokenAction,
}

#[derive(Debug, Subcommand)]
enum TokenAction {
    Create(CreateArgs),
    /// List the tokens; no secrets
    #[command(after_help = "Example: srm-mirror token list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Revoke a token: the next request with it is refused
    #[command(after_help = "Example: srm-mirror token revoke ci")]
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        cache: AdminArgs,
    },
    /// Make a new key for the addresses of zips in answers; addresses that the last key signed hold until they expire
    #[command(after_help = "Example: srm-mirror token rotate-signing-key")]
    RotateSigningKey {
        #[command(flatten)]
        cache: AdminArgs,
    },
}

/// Create a token and print it
#[derive(Debug, Args)]
#[command(after_help = CREATE_HELP)]
struct CreateArgs {
    /// Its name: letters, digits and . _ -
    #[arg(long)]
    name: String,
    /// A right that it may use; can be repeated
    #[arg(long, value_enum, value_name = "RIGHT", default_values = ["read"])]
    scope: Vec<Right>,
    /// A pattern of packages that it may be used for, such as 'devsapp/*' or 'fc*'; can be repeated [default: all]
    #[arg(long, value_name = "PATTERN")]
    packages: Vec<String>,
    /// When it ends: a period such as 90d, or never
    #[arg(long, value_name = "PERIOD", default_value = "90d")]
    expires: Expiry,
    /// Let the 3.x command line client sign with it: it is then stored in clear
    #[arg(long)]
    cli: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: AdminArgs,
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Never,
    After(SignedDuration),
}

/// A text that is no [`Expiry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a period such as 90d or 12h, or never")]
struct ExpiryError;

impl FromStr for Expiry {
    type Err = ExpiryError;

    fn from_str(text: &str) -> Result<Self, ExpiryError> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let period: Period = text.parse().map_err(|_| ExpiryError)?;
        let after = SignedDuration::try_from(period.0).map_err(|_| ExpiryError)?;
        if after.is_zero() { Err(ExpiryError) } else { Ok(Self::After(after)) }
    }
}

impl ValueEnum for Right {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl TokenCommand {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            TokenAction::Create(arguments) => create(arguments),
            TokenAction::List { json, cache } => list(&cache, json),
            TokenAction::Revoke { name, cache } => {
                ensure_cache_dir_exists(&cache)?;
                admin_client::run_at(&cache, async |client| client.call(&RevokeToken { name }).await)?;
                Ok(0)
            }
            TokenAction::RotateSigningKey { cache } => {
                ensure_cache_dir_exists(&cache)?;
                admin_client::run_at(&cache, async |client| client.call(&RotateSigningKey {}).await)?;
                Ok(0)
            }
        }
    }
}

fn create(arguments: CreateArgs) -> anyhow::Result<u8> {
    let CreateArgs { name, mut scope, packages, expires, cli, json, cache } = arguments;
    scope.sort_unstable();
    scope.dedup();
    let expires_at = match expires {
        Expiry::Never => None,
        Expiry::After(period) => Some(Timestamp::now().saturating_add(period).unwrap_or(Timestamp::MAX)),
    };
    let request = CreateToken { name, scopes: scope, packages, expires_at, signs: cli };
    let created = admin_client::run_at(&cache, async |client| client.call(&request).await)?;
    if json {
        print(&format!("{}\n", serde_json::to_string(&created)?));
        return Ok(0);
    }
    let CreatedToken { secret, token, enabled } = created;
    print(&format!("{secret}\n"));
    let until = token.expires_at.map_or_else(|| "never ends".to_owned(), |end| format!("ends {end:.0}"));
    let mut note = format!("token:{} {until}; it is not shown again\n", token.name);
    if !enabled {
        note += "access.enabled is false: until it is true, every client may read everything without a token\n";
    }
    // Beside the token, which alone is on standard output. A closed terminal is no error.
    let _ = io::stderr().write_all(escape_terminal_lines(&note).as_bytes());
    Ok(0)
}

fn list(cache: &AdminArgs, json: bool) -> anyhow::Result<u8> {
    ensure_cache_dir_exists(cache)?;
    let list = admin_client::run_at(cache, async |client| client.call(&ListTokens {}).await)?;
    if json {
        print(&format!("{}\n", serde_json::to_string(&list)?));
    } else if list.tokens.is_empty() {
        print("no tokens\n");
    } else {
        print(&escape_terminal_lines(&table(&list.tokens)));
    }
    Ok(0)
}

fn table(tokens: &[TokenRow]) -> String {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| format!("{at:.0}"));
    let row = |token: &TokenRow| {
        let scopes: Vec<&str> = token.scopes.iter().map(|right| right.as_str()).collect();
        let packages = if token.packages.is_empty() { "all".to_owned() } else { token.packages.join(",") };
        let form = if token.signs { "cli" } else { "" };
        [
            token.name.clone(),
            token.id.clone(),
            scopes.join(","),
            packages,
            time(token.expires_at),
            time(token.last_used_at),
            form.to_owned(),
        ]
    };
    let head = ["NAME", "ID", "SCOPE", "PACKAGES", "ENDS", "LAST USED", ""].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(tokens.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width);
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_a_period_or_never() {
        assert_eq!("never".parse(), Ok(Expiry::Never));
        assert_eq!("90d".parse(), Ok(Expiry::After(SignedDuration::from_hours(90 * 24))));
        for text in ["", "0s", "forever", "tomorrow", "-1d"] {
            assert_eq!(text.parse::<Expiry>(), Err(ExpiryError), "{text}");
        }
    }
}
