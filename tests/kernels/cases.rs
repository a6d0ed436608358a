//! All cases of all kernels, and random shapes, on the device under test against the CPU reference.
//!
//! One trial runs all cases of a kernel, because a process per case would spend its time on startup; it continues after a failure and lists all failures.
//! Single cases are selected by words or by their identity: `tests/run kernels -- matvec q8`,
//! `tests/run kernels -- --case "rms_norm.subgroup/17 rows of 5280, 3 resting"`.
//! `RUMINATE_TEST_SEED` shifts the random shapes.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use ruminate_engine::Device;
use ruminate_shaders::{Case, KERNELS, Kernel, case_ids, find_case};
use ruminate_tests::{Entry, device, ignored, trial};

/// Random shapes per kernel in the quick tier, and in the full one.
const RANDOM: [(&str, std::ops::Range<u64>); 2] = [("quick", 0..3), ("full", 3..25)];

/// Outcome of a case.
enum Verdict {
    Passed,
    /// The device lacks a feature that the case needs.
    Lacks(String),
    Failed(String),
}

fn verdict(device: &Device, case: &Case) -> Verdict {
    if let Some(lacks) = device.lacks(&case.launch) {
        return Verdict::Lacks(lacks);
    }
    match device.verify(case) {
        Ok(verdict) if verdict.passed() => Verdict::Passed,
        Ok(verdict) => Verdict::Failed(verdict.to_string()),
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

/// Runs cases, and fails with a line per failed case.
fn run(device: &Device, cases: &[Case]) -> Result<()> {
    let mut failed = Vec::new();
    let mut passed = 0;
    for case in cases {
        match verdict(device, case) {
            Verdict::Passed => passed += 1,
            Verdict::Lacks(lacks) => ignored(&case.id(), &lacks),
            Verdict::Failed(problem) => failed.push(format!("--case {:?}: {problem}", case.id())),
        }
    }
    println!("{passed} of {} cases passed, {} failed", cases.len(), failed.len());
    ensure!(failed.is_empty(), "{} of {} cases fail:\n{}", failed.len(), cases.len(), failed.join("\n"));
    Ok(())
}

/// Reason why a device cannot run any of the cases, if so.
fn lacks(device: Option<&Device>, cases: &[Case]) -> Option<String> {
    let Some(device) = device else { return Some("no device, only the CPU reference".to_owned()) };
    let lacking: Option<Vec<String>> = cases.iter().map(|case| device.lacks(&case.launch)).collect();
    lacking.map(|reasons| reasons.into_iter().next().unwrap_or_else(|| "the kernel has no such case".to_owned()))
}

/// Trial of cases, ignored if the device cannot run any of them.
pub(crate) fn of_cases(name: String, device: Option<&Device>, cases: impl Fn() -> Vec<Case> + Send + 'static) -> Entry {
    let lacks = lacks(device, &cases());
    Entry::new(name, move || run(&self::device().context("no device")?, &cases())).unless(lacks)
}

/// Maximum number of cases per trial. A kernel with more gets a trial per option of its first axis, so that all cores have work.
const MOST: usize = 60;

#[trial(list)]
fn cases_match_the_cpu_reference() -> Vec<Entry> {
    let device = device();
    let of = |kernel: &'static Kernel| {
        let options =
            kernel.axes.first().filter(|_| kernel.all_cases().len() > MOST).map_or(1, |axis| axis.options.len());
        let entry = |option: usize| {
            let cases = move || {
                let mut cases = kernel.all_cases();
                cases.retain(|case| options == 1 || case.launch.option(0) == option);
                cases
            };
            let name = match options {
                1 => kernel.name.to_owned(),
                _ => format!("{}.{}", kernel.name, kernel.axes[0].options[option].name),
            };
            of_cases(format!("device::{name}"), device.as_ref(), cases)
        };
        (0..options).map(entry).collect::<Vec<_>>()
    };
    KERNELS.iter().flat_map(|kernel| of(kernel)).collect()
}

fn random(kernel: &'static Kernel, seeds: std::ops::Range<u64>) -> Vec<Case> {
    let first = std::env::var("RUMINATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0_u64);
    seeds.flat_map(|seed| kernel.random_cases(first + seed)).collect()
}

#[trial(list)]
fn random_shapes_match_the_cpu_reference() -> Vec<Entry> {
    shapes(0)
}

#[trial(list, full)]
fn more_random_shapes_match_the_cpu_reference() -> Vec<Entry> {
    shapes(1)
}

fn shapes(which: usize) -> Vec<Entry> {
    let device = device();
    let of = |kernel: &'static Kernel| {
        let (tier, seeds) = RANDOM[which].clone();
        of_cases(format!("device::random_{tier}::{}", kernel.name), device.as_ref(), move || {
            random(kernel, seeds.clone())
        })
    };
    KERNELS.iter().map(|kernel| of(kernel)).collect()
}

/// Runs the cases that the command line selects by words or identity, with a line for each; `None` if it selects none.
pub(crate) fn chosen(arguments: &[String]) -> Option<Result<ExitCode>> {
    let ids: Vec<String> = match arguments {
        [flag, rest @ ..] if flag == "--case" => rest.to_vec(),
        words => {
            let words: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
            let named = words.iter().any(|word| word.contains("::"));
            if words.is_empty() || named || words.len() < arguments.len() {
                return None;
            }
            case_ids().filter(|id| words.iter().all(|word| id.contains(word.as_str()))).collect()
        }
    };
    Some(report(&ids))
}

fn report(ids: &[String]) -> Result<ExitCode> {
    let device = device().unwrap_or_else(Device::cpu);
    let (mut passed, mut failed, mut lacking) = (0, 0, 0);
    ensure!(!ids.is_empty(), "no case identity contains all of these words; `tests/run kernels -- --ids` lists them");
    for id in ids {
        let Some(case) = find_case(id) else { bail!("unknown case {id:?}; `tests/run kernels -- --ids` lists them") };
        match verdict(&device, &case) {
            Verdict::Passed => {
                passed += 1;
                println!("ok       {id}");
            }
            Verdict::Lacks(lacks) => {
                lacking += 1;
                println!("ignored  {id}: {lacks}");
            }
            Verdict::Failed(problem) => {
                failed += 1;
                println!("FAILED   {id}: {problem}");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {lacking} ignored on {}", device.name());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the identities of all cases.
pub(crate) fn print_ids() {
    case_ids().for_each(|id| println!("{id}"));
}
