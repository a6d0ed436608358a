//! Short, deterministic run of the fuzzer as a test.

mod cli;
mod driver;
mod json;
mod mutate;
mod targets;
mod template;

use clap::ValueEnum;
use libtest_mimic::Arguments;
use ruminate_tests::{Entry, trial};

use crate::driver::Plan;
use crate::targets::Kind;

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

fn main() -> std::process::ExitCode {
    // Memory is measured per process, so targets run one at a time.
    ruminate_tests::main_with(&Arguments { test_threads: Some(1), ..Arguments::from_args() })
}

#[trial(list)]
fn few() -> Vec<Entry> {
    entries(2_000)
}

#[trial(list, full)]
fn many() -> Vec<Entry> {
    entries(20_000)
}

#[trial(list, matrix)]
fn very_many() -> Vec<Entry> {
    entries(400_000)
}

/// One trial per target, with `all` cases in total.
fn entries(all: u64) -> Vec<Entry> {
    let shares: u64 = Kind::value_variants().iter().map(|kind| kind.share()).sum();
    let of = |&kind: &Kind| {
        let plan = Plan { kind, seed: 1, from: 0, keep: false, cases: (all * kind.share()).div_ceil(shares) };
        // The command is built by the tests of its own package, which may not be part of this run.
        let lacks = (kind == Kind::Cli && cli::program().is_none()).then(|| "the command is not built".to_owned());
        let run = move || driver::run(&plan, &MEMORY).map(drop).map_err(anyhow::Error::msg);
        Entry::new(format!("{}_{all}", kind.name()), run).unless(lacks)
    };
    Kind::value_variants().iter().map(of).collect()
}
