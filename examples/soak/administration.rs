//! Administration under load: `srm-mirror cache …` now and then, through the running mirror or, right after a kill,
//! without one.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Mutex, OwnedMutexGuard, watch},
    task::spawn_blocking,
};

use super::{
    dice::Dice,
    served_mirror::{CommandEnd, MirrorProgram},
    tally::SoakCounts,
};

/// Exit codes besides 0 that are no fault: a negative result, a mirror that was killed, a directory that another process
/// holds.
const PERMITTED: [i32; 3] = [1, 69, 74];

/// The task that runs commands.
pub(crate) struct Administration {
    /// Held while a command runs.
    busy: Arc<Mutex<()>>,
    commands: Arc<AtomicU64>,
}

/// What `cache verify` has found.
pub(crate) struct Verified {
    pub(crate) zips: u64,
    /// Damaged, or damaged and mended.
    pub(crate) damaged: u64,
}

impl Administration {
    pub(crate) fn start(
        program: MirrorProgram,
        counts: Arc<SoakCounts>,
        address: &watch::Sender<Option<SocketAddr>>,
        seed: u64,
    ) -> Self {
        let busy = Arc::new(Mutex::new(()));
        let commands = Arc::new(AtomicU64::new(0));
        let gate = busy.clone();
        let count = commands.clone();
        let mut address = address.subscribe();
        tokio::spawn(async move {
            let mut dice = Dice::new(seed);
            loop {
                tokio::time::sleep(Duration::from_millis(200 + dice.roll(1_500))).await;
                if address.wait_for(Option::is_some).await.is_err() {
                    return;
                }
                let _running = gate.lock().await;
                count.fetch_add(1, Relaxed);
                run(&program, &counts, &mut dice).await;
            }
        });
        Self { busy, commands }
    }

    /// Waits for the end of the running command; no other begins until the guard is dropped.
    pub(crate) async fn pause(&self) -> OwnedMutexGuard<()> {
        self.busy.clone().lock_owned().await
    }

    /// Number of commands so far.
    pub(crate) fn count(&self) -> u64 {
        self.commands.load(Relaxed)
    }
}

/// Runs one command and checks how it ends, and that `verify` finds nothing damaged.
async fn run(program: &MirrorProgram, counts: &SoakCounts, dice: &mut Dice) {
    let package = format!("soak/p{}", dice.roll(12));
    let version = format!("{package}@v1.{}.0", dice.roll(4));
    let words: Vec<&str> = match dice.roll(10) {
        0 => vec!["cache", "ls", "--json"],
        1 => vec!["cache", "stats", "--json"],
        2 => vec!["cache", "verify", "--no-fetch", "--json"],
        3 => vec!["cache", "rm", &version, "--yes"],
        4 => vec!["cache", "rm", &package, "--yes"],
        5 => vec!["cache", "rm", &version, "--forget", "--yes"],
        6 => vec!["cache", "keep", &version],
        7 => vec!["cache", "unkeep", "*"],
        8 => vec!["cache", "gc", "--unused", "5s", "--yes"],
        _ => vec!["cache", "export", "bundle.tar", &package],
    };
    let arguments: Vec<String> = words.iter().map(ToString::to_string).collect();
    let program = program.clone();
    let ran = spawn_blocking(move || {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        program.run(&words)
    });
    let ended: io::Result<CommandEnd> = ran.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    match ended {
        Ok(end) => {
            if end.status.code().is_none_or(|code| code != 0 && !PERMITTED.contains(&code)) {
                counts.violation(format!("{words:?} ends with {}", end.status));
            }
            if let Some(Verified { damaged: 1.., .. }) = count_damaged(&end) {
                counts.violation(format!("{words:?} finds damage: {}", end.out));
            }
        }
        Err(error) => counts.violation(format!("a command does not run: {error}")),
    }
}

/// What the last line of `cache verify --json` says; `None` if it did not come to its end.
pub(crate) fn count_damaged(end: &CommandEnd) -> Option<Verified> {
    let last: Value = serde_json::from_str(end.out.lines().last()?).ok()?;
    let count = |name: &str| last.get(name).and_then(Value::as_u64);
    (last.get("event")? == "end")
        .then(|| Some(Verified { zips: count("zips")?, damaged: count("damaged")? + count("mended")? }))?
}
