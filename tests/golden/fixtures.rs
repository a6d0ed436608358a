//! Compares the checkpoints in this folder with the authors' own code, on the device under test and on the CPU reference.

use anyhow::{Context, Result, ensure};
use ruminate_engine::Device;
use ruminate_tests::golden::{self, Section};
use ruminate_tests::{Entry, device, golden_folder, trial};

/// Fixtures, each with the minimum number of checks per section, so that a trimmed fixture cannot pass unnoticed.
const FIXTURES: [(&str, [usize; 4]); 7] = [
    ("tiny", [30, 30, 30, 20]),
    ("odd", [30, 30, 9, 0]),
    ("block_bf16", [30, 9, 0, 0]),
    ("ouro", [80, 9, 40, 0]),
    ("nanbeige", [80, 9, 0, 0]),
    ("retro_tinyllama", [60, 9, 0, 0]),
    ("retro_olmo", [60, 9, 0, 0]),
];

/// Fixture of the quick tier.
const SMALLEST: &str = "tiny";

#[trial(list)]
fn smallest_fixture() -> Vec<Entry> {
    entries(|name| name == SMALLEST)
}

#[trial(list, full)]
fn other_fixtures() -> Vec<Entry> {
    entries(|name| name != SMALLEST)
}

fn entries(wanted: fn(&str) -> bool) -> Vec<Entry> {
    let mut all = Vec::new();
    let lacks = device().is_none().then(|| "no device, only the CPU reference".to_owned());
    for (name, least) in FIXTURES.into_iter().filter(|(name, _)| wanted(name)) {
        for (section, least) in Section::ALL.into_iter().zip(least).filter(|(_, least)| *least > 0) {
            let trial = |place: &str| format!("{place}::{name}::{}", section.name());
            let on_device = move || check(name, &device().context("no device")?, section, least);
            all.push(Entry::new(trial("device"), on_device).unless(lacks.clone()));
            all.push(Entry::new(trial("cpu"), move || check(name, &Device::cpu(), section, least)));
        }
    }
    all
}

fn check(fixture: &str, device: &Device, section: Section, least: usize) -> Result<()> {
    let outcomes = golden::check(&golden_folder(fixture), device, &[section])?;
    ensure!(outcomes.len() >= least, "only {} checks", outcomes.len());
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed())
        .map(|o| format!("{}: error {:.3e}, bound {:.3e}", o.name, o.error, o.bound))
        .collect();
    ensure!(failed.is_empty(), "{} of {} checks fail:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
    Ok(())
}
