//! Compares checkpoints with outputs of the authors' own code: one line per check, exit code 0 only if all pass.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ruminate_engine::{Device, OpenOptions, Select};
use ruminate_tests::golden;

/// Compare checkpoints with the outputs of the authors' own code.
#[derive(Parser)]
struct Arguments {
    /// Adapter to use, by name or index; by default the best one.
    #[arg(long, value_name = "NAME|INDEX")]
    gpu: Option<String>,
    /// Use the CPU references of the kernels.
    #[arg(long, conflicts_with = "gpu")]
    cpu: bool,
    /// Check only these sections; by default all.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = sections())]
    section: Vec<golden::Section>,
    /// Folders with a checkpoint, expected.json and expected.safetensors.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
}

/// Parser of `--section`.
fn sections() -> impl TypedValueParser<Value = golden::Section> {
    let named = |name: String| {
        golden::Section::ALL.into_iter().find(|it| it.name() == name).unwrap_or(golden::Section::Computed)
    };
    PossibleValuesParser::new(golden::Section::ALL.map(golden::Section::name)).map(named)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let select = arguments.gpu.as_deref().map_or(Select::Best, Select::from);
    let device =
        if arguments.cpu { Device::cpu() } else { Device::open(&OpenOptions { select, ..OpenOptions::default() })? };
    println!("device: {}", device.name());
    let (mut passed, mut failed) = (0, 0);
    let sections = if arguments.section.is_empty() { &golden::Section::ALL[..] } else { &arguments.section };
    for folder in &arguments.folders {
        println!("{}", folder.display());
        match golden::check(folder, &device, sections) {
            Ok(outcomes) => {
                for outcome in outcomes {
                    let verdict = match (outcome.passed(), outcome.excused) {
                        (true, Some(reason)) if outcome.error > outcome.bound => format!("pass ({reason})"),
                        (true, _) => "pass".to_owned(),
                        (false, _) => "FAIL".to_owned(),
                    };
                    println!(
                        "  {:<58} error {:<10.3e} bound {:<10.3e} {verdict}",
                        outcome.name, outcome.error, outcome.bound
                    );
                    if outcome.passed() { passed += 1 } else { failed += 1 }
                }
            }
            Err(error) => {
                println!("  FAIL: {error:#}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
