//! Fuzzer: feeds damaged input to all readers, and looks for panics, hangs and excessive memory.
//!
//! `cargo run --release -p ruminate-tests --bin fuzz` runs a million cases. A case depends only on the seed and its number, so failures can be reproduced
//! with the command in the report. The folder of a failing case is kept.

mod cli;
mod driver;
mod json;
mod mutate;
mod targets;
mod template;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::driver::Plan;
use crate::targets::Kind;

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Flags of the program.
#[derive(Parser)]
struct Arguments {
    /// Total number of cases, divided among the targets
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// Seed of all cases
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One target only
    #[arg(long, value_enum)]
    target: Option<Kind>,
    /// Number of the first case
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Keep the files of the last case, and print their folder
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let Arguments { cases, seed, target, from, keep } = Arguments::parse();
    let kinds = target.map_or_else(|| Kind::value_variants().to_vec(), |kind| vec![kind]);
    let shares: u64 = kinds.iter().map(|kind| kind.share()).sum();
    let mut code = ExitCode::SUCCESS;
    for kind in kinds {
        let plan = Plan { kind, seed, from, keep, cases: (cases * kind.share()).div_ceil(shares) };
        match driver::run(&plan, &MEMORY) {
            Ok(report) => println!("{report}"),
            Err(failure) => {
                println!("{failure}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
