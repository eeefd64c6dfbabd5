//! Runs the fuzz targets without a fuzzer: mutates their seeds for a time. For machines where cargo-fuzz does not install.
//!
//! It does not see which branches an input takes, so it finds less; `fuzz/` has the targets for cargo-fuzz.
//!
//! `cargo run --release -p examples --features fuzzing --bin fuzz_driver -- --seconds 60`

#[path = "../tests/support/dice.rs"]
mod dice;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Parser;
use dice::Dice;
use srm_mirror::fuzzing;

/// Mutates the seeds of every fuzz target.
#[derive(Parser)]
#[command(name = "fuzz_driver")]
struct Arguments {
    /// Time for all targets together.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The folder with a folder of seeds for each target.
    #[arg(long, default_value = "fuzz/seeds", value_name = "DIR")]
    seeds: PathBuf,
    /// Runs this target alone.
    #[arg(long)]
    target: Option<String>,
    /// Repeats the inputs of an earlier run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 9] = [
    ("path", fuzzing::path),
    ("range_and_conditions", fuzzing::range_and_conditions),
    ("version", fuzzing::version),
    ("upstream_json", fuzzing::upstream_json),
    ("zip_reader", fuzzing::zip_reader),
    ("view_plans", fuzzing::view_plans),
    ("configuration", fuzzing::configuration),
    ("index_record", fuzzing::index_record),
    ("bundle", fuzzing::bundle),
];

/// The seeds of a target, and an empty one.
fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut seeds: Vec<Vec<u8>> = files.filter_map(|file| fs::read(file.path()).ok()).collect();
    seeds.push(Vec::new());
    seeds
}

/// A random part of the text: `first..last`.
fn part(dice: &mut Dice, len: usize) -> std::ops::Range<usize> {
    let first = roll(dice, len + 1);
    let most = (len - first).min(32);
    first..first + roll(dice, most + 1)
}

fn roll(dice: &mut Dice, sides: usize) -> usize {
    usize::try_from(dice.roll(sides.max(1) as u64)).unwrap_or(0)
}

/// Changes some bytes: flipped, replaced, removed, repeated, taken from another seed.
fn mutate(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const INTERESTING: &[u8] = b"\0\x01\x7f\x80\xff/.-\"\\{}[],:=\n *%?0129";
    let mut input = seeds[roll(dice, seeds.len())].clone();
    for _ in 0..=dice.roll(6) {
        let at = roll(dice, input.len());
        match dice.roll(6) {
            0 if !input.is_empty() => input[at] ^= 1 << dice.roll(8),
            1 if !input.is_empty() => input[at] = INTERESTING[roll(dice, INTERESTING.len())],
            2 => input.insert(at, INTERESTING[roll(dice, INTERESTING.len())]),
            3 => drop(input.drain(part(dice, input.len()))),
            4 => {
                let copy = input[part(dice, input.len())].to_vec();
                input.splice(at..at, copy);
            }
            _ => {
                let other = &seeds[roll(dice, seeds.len())];
                let copy = other[part(dice, other.len())].to_vec();
                input.splice(at..at, copy);
            }
        }
    }
    input
}

fn main() {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.target.as_ref().is_none_or(|target| target == name);
    let targets: Vec<_> = TARGETS.into_iter().filter(|(name, _)| wanted(name)).collect();
    let share = Duration::from_secs(arguments.seconds) / u32::try_from(targets.len().max(1)).unwrap_or(1);
    let last = PathBuf::from("target/fuzz-input");
    for (name, run) in targets {
        let seeds = seeds(&arguments.seeds.join(name));
        let mut dice = Dice::new(arguments.seed);
        let until = Instant::now() + share;
        let mut count = 0_u64;
        let check = |input: &[u8], count: u64| {
            if std::panic::catch_unwind(|| run(input)).is_err() {
                let written =
                    fs::write(&last, input).map_or_else(|error| error.to_string(), |()| last.display().to_string());
                eprintln!("{name}: fails after {count} inputs; the input is in {written}");
                std::process::exit(1);
            }
        };
        for seed in &seeds {
            check(seed, 0);
        }
        while Instant::now() < until {
            check(&mutate(&seeds, &mut dice), count);
            count += 1;
        }
        println!("{name}: {count} inputs, {} seeds", seeds.len());
    }
}
