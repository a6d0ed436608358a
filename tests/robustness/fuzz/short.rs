//! A short run of the fuzzer, the same every time: that the cases work, and that nothing easy to find was broken.

mod cli;
mod driver;
mod json;
mod mutate;
mod targets;
mod template;

use clap::ValueEnum;

use crate::driver::Plan;
use crate::targets::Kind;

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Cases in all.
const CASES: u64 = 20_000;

fn main() {
    // Memory is measured over the whole process, so one target at a time.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let shares: u64 = Kind::value_variants().iter().map(|kind| kind.share()).sum();
    let trials = Kind::value_variants().iter().map(|&kind| {
        let plan = Plan { kind, seed: 1, from: 0, keep: false, cases: (CASES * kind.share()).div_ceil(shares) };
        // The command is built by its own package's tests, which may not be part of this run.
        let there = kind != Kind::Cli || cli::program().is_some();
        let run = move || driver::run(&plan, &MEMORY).map(|_| ()).map_err(Into::into);
        Trial::test(kind.name(), run).with_ignored_flag(!there)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
