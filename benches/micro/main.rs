//! Micro-benches: one pure step of a request at a time, with usual and with adversarial input.
//!
//! `cargo bench --bench micro` runs all in under three minutes, `cargo bench --bench micro -- path/` one group.
//!
//! Adversarial inputs come in two sizes, the second many times the first, under one name. If `path/8 KiB of slashes` has a
//! lower throughput than `path/1 KiB of slashes`, the step is worse than linear in its input. Each group's file says which
//! figures to compare.

use std::time::Duration;

use criterion::Criterion;

mod lookup;
mod path;
mod range;
mod render;
mod view;
mod zips;

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .nresamples(5_000)
        .configure_from_args();
    path::bench(&mut criterion);
    range::bench(&mut criterion);
    lookup::bench(&mut criterion);
    render::bench(&mut criterion);
    view::bench(&mut criterion);
    criterion.final_summary();
}

/// A generator of pseudo-random numbers below a bound, the same ones in every run.
struct PseudoRandom(u64);

impl PseudoRandom {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 24) % bound
    }
}
