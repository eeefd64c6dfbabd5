//! The program entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    srm_mirror::cli::run()
}
