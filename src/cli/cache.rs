//! `srm-mirror cache`: looks at what is stored and changes it, through the running mirror or without one.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    CacheArgs, FAILED, UsageError, admin_client,
    atomic_file::{AtomicFile, SHARED_FILE_MODE},
    print,
};
use crate::value::{ByteSize, Period};

mod bundle;
mod export;
mod import;
mod table;
mod verify;

/// Bytes that are printed at once.
const AT_ONCE: usize = 64 << 10;

const PATTERNS: &str = "\
A PATTERN is owner/repo, `*` and `?` allowed, an upstream's name and `:` may stand in front, a version behind `@`:
  devsapp/fc3    devsapp/*    gitee:*/*    devsapp/fc3@1.2.0    devsapp/fc3@0.*    and for everything  */*

All of them work while the mirror runs, through control.sock in its cache directory, and without it.";

const LS: &str = "\
Examples:
  srm-mirror cache ls 'devsapp/*' --sort size
  srm-mirror cache ls --sort hits --limit 20

HITS is how often the zip was answered from memory or disk since it was stored. USED is its last use, by a
client or by warm. PINNED says that its digest is written down, KEPT that it is never evicted.";

/// Look at what is stored, and change it
#[derive(Debug, Args)]
#[command(after_help = PATTERNS)]
pub(super) struct Cache {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the stored zips
    #[command(after_help = LS)]
    Ls {
        /// Which ones [default: all]
        #[arg(value_parser = pattern)]
        pattern: Option<String>,
        /// In which order
        #[arg(long, value_enum, default_value = "name")]
        sort: Sort,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// One JSON value per line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Say what takes the space and what is asked for: tiers, upstreams, the largest and the most used packages
    #[command(after_help = "Example: srm-mirror cache stats --json")]
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Hash everything that is stored again; set aside what is damaged and fetch it again
    #[command(after_help = "Example: srm-mirror cache verify 'devsapp/*'")]
    Verify {
        /// Which ones [default: all]
        #[arg(value_parser = pattern)]
        pattern: Option<String>,
        /// Do not fetch anything again
        #[arg(long)]
        no_fetch: bool,
        /// One JSON value per line, progress included
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Remove zips, and with a whole package its release list; what was first seen stays known
    #[command(after_help = "Example: srm-mirror cache rm devsapp/fc3@0.* --dry-run")]
    Rm {
        /// Which ones
        #[arg(value_parser = pattern)]
        pattern: String,
        /// Forget what was first seen, too: the next fetch may have other content
        #[arg(long)]
        forget: bool,
        #[command(flatten)]
        sure: ConfirmArgs,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Remove damaged files that were set aside, and on demand what nobody uses
    #[command(after_help = "Example: srm-mirror cache gc --unused 90d --yes")]
    Gc {
        /// Remove zips that were not used for this long and are not kept
        #[arg(long, value_name = "PERIOD")]
        unused: Option<Period>,
        #[command(flatten)]
        sure: ConfirmArgs,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Never evict these
    #[command(after_help = "Example: srm-mirror cache keep 'devsapp/fc3@1.*'")]
    Keep {
        /// Which ones
        #[arg(value_parser = pattern)]
        pattern: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Take the mark of keep away
    #[command(after_help = "Example: srm-mirror cache unkeep 'devsapp/*'")]
    Unkeep {
        /// Which ones
        #[arg(value_parser = pattern)]
        pattern: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Write zips, release lists and digests into one file, for a mirror that has no internet
    #[command(after_help = "Example: srm-mirror cache export monday.tar 'devsapp/*'")]
    Export {
        /// The file to write
        file: PathBuf,
        /// Which ones [default: all]
        #[arg(value_parser = pattern)]
        pattern: Option<String>,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Take in what another mirror has exported; every byte is checked before anything changes
    #[command(after_help = "Example: srm-mirror cache import monday.tar --dry-run")]
    Import {
        /// The file
        file: PathBuf,
        /// Replace what was first seen here where the bundle has other content; asks before it does
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        sure: ConfirmArgs,
        #[command(flatten)]
        place: CacheArgs,
    },
    /// Write what is stored to a lock file: package, version, SHA-256, commit, first seen
    #[command(after_help = "Example: srm-mirror cache lock 'devsapp/*' && srm-mirror warm --locked srm-mirror.lock")]
    Lock {
        /// Which ones [default: all]
        #[arg(value_parser = pattern)]
        pattern: Option<String>,
        /// The file
        #[arg(long, value_name = "FILE", default_value = "srm-mirror.lock")]
        file: PathBuf,
        #[command(flatten)]
        place: CacheArgs,
    },
}

#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Sort {
    /// Upstream, package, version
    Name,
    /// Largest first
    Size,
    /// Oldest first
    Age,
    /// Least recently used first
    Used,
    /// Most often answered from the store first
    Hits,
}

/// For what cannot be undone.
#[derive(Debug, Args)]
struct ConfirmArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Action {
    /// The place of what works on a cache that is there; `import` makes one.
    fn of_existing(&self) -> Option<&CacheArgs> {
        match self {
            Self::Ls { place, .. }
            | Self::Stats { place, .. }
            | Self::Verify { place, .. }
            | Self::Rm { place, .. }
            | Self::Gc { place, .. }
            | Self::Keep { place, .. }
            | Self::Unkeep { place, .. }
            | Self::Export { place, .. }
            | Self::Lock { place, .. } => Some(place),
            Self::Import { .. } => None,
        }
    }
}

/// An empty argument is more likely an unset variable than a wish to change everything.
fn pattern(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("it is empty, perhaps an unset variable; write '*/*' for everything");
    }
    Ok(text.to_owned())
}

/// Refuses a directory that does not exist: a slip in its name must not make an empty cache there.
fn exists(place: &CacheArgs) -> anyhow::Result<()> {
    let dir = place.load()?.config.disk.dir;
    match dir.filter(|dir| !dir.exists()) {
        Some(dir) => {
            let why = format!(
                "there is no cache directory at {}; --cache-dir or disk.dir names it, serve and warm make one",
                dir.display()
            );
            Err(io::Error::new(io::ErrorKind::NotFound, why).into())
        }
        None => Ok(()),
    }
}

impl Cache {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        self.action.of_existing().map_or(Ok(()), exists)?;
        match self.action {
            Action::Ls { pattern, sort, limit, json, place } => {
                let ask = json!({"pattern": pattern, "sort": sort, "limit": limit});
                ls(&place, &ask, json)
            }
            Action::Stats { json, place } => stats(&place, json),
            Action::Verify { pattern, no_fetch, json, place } => verify::run(&place, pattern, no_fetch, json),
            Action::Rm { pattern, forget, sure, place } => {
                let ask = json!({"pattern": pattern, "forget": forget});
                destroy(&place, "rm", ask, &sure)
            }
            Action::Gc { unused, sure, place } => {
                destroy(&place, "gc", json!({"unused": unused.map(|period| period.to_string())}), &sure)
            }
            Action::Keep { pattern, dry_run, place } => keep(&place, &pattern, true, dry_run),
            Action::Unkeep { pattern, dry_run, place } => keep(&place, &pattern, false, dry_run),
            Action::Export { file, pattern, place } => export::run(&place, &file, pattern),
            Action::Import { file, force, sure, place } => import::run(&place, &file, force, &sure),
            Action::Lock { pattern, file, place } => lock(&place, pattern, &file),
        }
    }
}

/// What is stored comes line by line; a table is held as far as its widths have to be known.
fn ls(place: &CacheArgs, ask: &Value, json: bool) -> anyhow::Result<u8> {
    let mut table = table::Table::new();
    let mut text = String::new();
    let mut say = |line: &str| {
        text += line;
        if text.len() >= AT_ONCE || line.is_empty() {
            print(&std::mem::take(&mut text));
        }
    };
    admin_client::run(place.load()?, async |session| {
        let each = |line: &[u8]| {
            if json {
                say(std::str::from_utf8(line)?);
                say("\n");
            } else {
                table.add(&serde_json::from_slice(line)?);
            }
            Ok(())
        };
        session.raw_lines("stock", ask, each).await
    })?;
    table.write(&mut say);
    say("");
    Ok(0)
}

fn stats(place: &CacheArgs, json: bool) -> anyhow::Result<u8> {
    let stats = admin_client::run(place.load()?, async |session| session.post("stats", &json!({})).await)?;
    print(&if json { format!("{stats}\n") } else { table::stats(&stats) });
    Ok(0)
}

/// Says what would go, asks, and lets it go.
fn destroy(place: &CacheArgs, what: &str, mut ask: Value, sure: &ConfirmArgs) -> anyhow::Result<u8> {
    admin_client::run(place.load()?, async |session| {
        ask["dry_run"] = true.into();
        let plan = session.post(what, &ask).await?;
        let zips = plan["zips"].as_array().map(Vec::as_slice).unwrap_or_default();
        let number = |name: &str| plan[name].as_u64().unwrap_or(0);
        if zips.is_empty() && number("documents") + number("forgotten") + number("marks") + number("bytes") == 0 {
            print("there is nothing to remove\n");
            return Ok(if what == "rm" { FAILED } else { 0 });
        }
        let mut say = table::items(zips);
        let size = ByteSize(number("bytes"));
        say += &format!("{} zips, {} release documents, {size} on disk", zips.len(), number("documents"));
        if number("forgotten") > 0 {
            say += &format!("; {} digests are forgotten", number("forgotten"));
        }
        if number("marks") > 0 {
            say += &format!("; {} that are not stored are kept no more", number("marks"));
        }
        print(&format!("{say}\n"));
        if sure.dry_run {
            return Ok(0);
        }
        if !sure.yes && !confirmed("remove them?")? {
            return Ok(FAILED);
        }
        // Only what was shown: others work on the cache while a person thinks.
        (ask["dry_run"], ask["only"]) = (false.into(), plan["plan"].clone());
        session.post(what, &ask).await?;
        print("removed\n");
        Ok(0)
    })
}

/// Asks the person at the terminal.
fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(UsageError(
            "nobody is there to be asked; --yes does it, --dry-run only says what would be done".into(),
        )
        .into());
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn keep(place: &CacheArgs, pattern: &str, kept: bool, dry_run: bool) -> anyhow::Result<u8> {
    admin_client::run(place.load()?, async |session| {
        let found = lines_of(session, "stock", &json!({"pattern": pattern})).await?;
        let ask = json!({"pattern": pattern, "kept": kept, "dry_run": dry_run});
        let done = session.post("keep", &ask).await?;
        let marks = done["marks"].as_u64().unwrap_or(0);
        if marks > 0 {
            let will = if dry_run { "would be" } else { "are" };
            print(&format!("{marks} that are not stored {will} kept no more\n"));
        } else if found.is_empty() {
            print("nothing of that is stored\n");
            return Ok(FAILED);
        }
        let zips = done["zips"].as_array().map(Vec::as_slice).unwrap_or_default();
        let already = found.iter().filter(|item| item["kept"] == kept).count();
        let changed = zips.iter().filter(|item| dry_run || item["kept"] == kept).count();
        let how = if kept { "kept" } else { "evictable" };
        let text = if dry_run { format!("would be {how}") } else { format!("are {how} now") };
        print(&format!("{}{} of {} zips {text}\n", table::items(zips), already + changed, found.len()));
        Ok(0)
    })
}

/// The lock file is TOML: one `[[package]]` per zip.
fn lock(place: &CacheArgs, pattern: Option<String>, file: &std::path::Path) -> anyhow::Result<u8> {
    let items = lines(place, "pins", &json!({"pattern": pattern}))?;
    if items.is_empty() {
        print(&format!("nothing of that is stored; {} is left as it was\n", file.display()));
        return Ok(FAILED);
    }
    let mut text = String::from("# Written by srm-mirror cache lock.\nversion = 1\n");
    for item in &items {
        text += "\n[[package]]\n";
        for name in ["upstream", "package", "kind", "version", "sha256", "commit", "first_seen"] {
            if let Some(value) = item[name].as_str() {
                text += &format!("{name} = {}\n", toml::Value::from(value));
            }
        }
    }
    let write = || {
        let lock_file = AtomicFile::create(file, SHARED_FILE_MODE)?;
        lock_file.file().write_all(text.as_bytes())?;
        lock_file.publish()
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    print(&format!("{} packages in {}\n", items.len(), file.display()));
    Ok(0)
}

fn lines(place: &CacheArgs, what: &str, ask: &Value) -> anyhow::Result<Vec<Value>> {
    admin_client::run(place.load()?, async |session| lines_of(session, what, ask).await)
}

async fn lines_of(session: &admin_client::AdminClient, what: &str, ask: &Value) -> anyhow::Result<Vec<Value>> {
    let mut items = Vec::new();
    session
        .lines(what, ask, |item| {
            items.push(item);
            Ok(())
        })
        .await?;
    Ok(items)
}
