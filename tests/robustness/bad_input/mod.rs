//! Bad input, called as a user calls it: a clear message on stderr, the right exit code, nothing on stdout, nothing written.
//!
//! Every kind of bad input has its home here; the tests of the single modules look at errors as data. Calls use the CPU twins,
//! so they need no driver; what is about a device is reported as ignored where there is none.

mod call;
mod checkpoints;
mod files;
mod outputs;
mod surroundings;
mod texts;

/// A kind of bad input.
type Case = (&'static str, fn() -> anyhow::Result<()>);

fn main() {
    let cases = [checkpoints::CASES, texts::CASES, files::CASES, outputs::CASES, surroundings::CASES].concat();
    let mut trials: Vec<Trial> = cases.into_iter().map(|(name, run)| trial(name, run)).collect();
    trials.extend(surroundings::on_device());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial(name: &str, run: fn() -> anyhow::Result<()>) -> Trial {
    Trial::test(name, move || run().map_err(|error| format!("{error:#}").into()))
}
