//! The checkpoints in `tests/golden` against the authors' own code, on the device under test and on the CPU twins.

use std::path::Path;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Trial};
use ruminate_engine::Device;
use ruminate_tests::golden::{self, Section};
use ruminate_tests::{device, trials};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let device = device();
    let mut all: Vec<Trial> = Vec::new();
    // With the number of checks of each section at least: a fixture from which most was cut off would prove nothing.
    for (name, least) in [("tiny", [30, 30, 30, 20]), ("odd", [30, 30, 9, 0]), ("block_bf16", [30, 9, 0, 0])] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        for (section, least) in Section::ALL.into_iter().zip(least).filter(|(_, least)| *least > 0) {
            let (here, there) = (folder.clone(), folder.clone());
            let test = |place: &str| format!("{name}::{}::matches_the_authors_on_the_{place}", section.name());
            all.push(trials(device.as_ref(), test("device"), move |device| check(&here, device, section, least)));
            all.push(trials(Some(&Device::cpu()), test("twins"), move |device| check(&there, device, section, least)));
        }
    }
    // Drivers may crash at the end of a process that still has a device.
    libtest_mimic::run(&arguments, all).exit_code()
}

fn check(folder: &Path, device: &Device, section: Section, least: usize) -> Result<()> {
    let outcomes = golden::check(folder, device, &[section])?;
    ensure!(outcomes.len() >= least, "only {} checks", outcomes.len());
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed())
        .map(|o| format!("{}: error {:.3e}, bound {:.3e}", o.name, o.error, o.bound))
        .collect();
    ensure!(failed.is_empty(), "{} of {} checks fail:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
    Ok(())
}
