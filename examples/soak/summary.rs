//! What a run reports.

use serde_json::{Map, Value, json};

use super::{
    process_samples::Descriptors,
    run::MEMORY_REST,
    served_mirror::{DISK_LIMIT, MEMORY_LIMIT},
    tally::{Ending, SoakCounts},
};

/// The figures of a run. Memory and space are bytes.
#[derive(Default)]
pub(crate) struct Summary {
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) lives: u64,
    pub(crate) kills: u64,
    pub(crate) quiet_phases: u64,
    pub(crate) commands: u64,
    /// Connections to the forge that were disturbed.
    pub(crate) disturbed: u64,
    pub(crate) peak_memory: u64,
    pub(crate) peak_disk: u64,
    pub(crate) peak_descriptors: u64,
    /// At the beginning and the end of the last life with quiet phases.
    pub(crate) descriptors: Option<(Descriptors, Descriptors)>,
    /// Zips that `cache verify` has hashed at the end.
    pub(crate) verified: u64,
    pub(crate) damaged: u64,
    wrong: u64,
    violations: u64,
    texts: Vec<String>,
    endings: Map<String, Value>,
    compared: u64,
}

impl Summary {
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Takes what the clients have counted.
    pub(crate) fn take(&mut self, counts: &SoakCounts) {
        self.wrong = counts.wrong_answers();
        self.violations = counts.violations();
        self.texts = counts.texts();
        self.endings = counts.endings();
        self.compared = counts.count(Ending::Whole) + counts.count(Ending::Range);
        if self.compared == 0 {
            self.violations += 1;
            self.texts.push("no answer was compared".to_owned());
        }
    }

    /// True if nothing was wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations == 0
    }

    /// One line.
    pub(crate) fn line(&self) -> String {
        let mib = |bytes: u64| bytes >> 20;
        let (before, after) = self.descriptors.clone().unwrap_or_default();
        let ends = ["unavailable", "broken"].map(|name| self.endings.get(name).and_then(Value::as_u64).unwrap_or(0));
        format!(
            "{} s, seed {}: {} kills, {} disturbed connections, {} commands; answers compared: {}, unavailable: {}, broken: \
             {}; whole answers wrong: {}; damaged: {} of {}; memory {} of {} MiB, disk {} of {} MiB, descriptors {} -> {}, \
             at most {}; violations: {}",
            self.seconds,
            self.seed,
            self.kills,
            self.disturbed,
            self.commands,
            self.compared,
            ends[0],
            ends[1],
            self.wrong,
            self.damaged,
            self.verified,
            mib(self.peak_memory),
            mib(MEMORY_LIMIT + MEMORY_REST),
            mib(self.peak_disk),
            mib(DISK_LIMIT),
            before.count(),
            after.count(),
            self.peak_descriptors,
            self.violations,
        )
    }

    pub(crate) fn json(&self) -> Value {
        let (before, after) = self.descriptors.clone().unwrap_or_default();
        json!({
            "seconds": self.seconds, "seed": self.seed, "lives": self.lives, "kills": self.kills,
            "quiet_phases": self.quiet_phases, "commands": self.commands, "disturbed": self.disturbed,
            "answers": self.endings, "compared": self.compared, "wrong": self.wrong,
            "verified": self.verified, "damaged": self.damaged,
            "memory": {"peak": self.peak_memory, "bound": MEMORY_LIMIT + MEMORY_REST},
            "disk": {"peak": self.peak_disk, "bound": DISK_LIMIT},
            "descriptors": {"before": before.count(), "after": after.count(), "peak": self.peak_descriptors},
            "violations": self.violations, "texts": self.texts,
        })
    }
}
