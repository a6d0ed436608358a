//! The checkpoints in `tests/golden` against the authors' own code, on the device under test and on the CPU twins.

use std::path::Path;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Trial};
use ruminate_engine::Device;
use ruminate_tests::{device, golden, trials};

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let device = device();
    let mut all: Vec<Trial> = Vec::new();
    for name in ["tiny", "odd", "block_bf16"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        let twins = folder.clone();
        all.push(trials(device.as_ref(), format!("{name}::matches_the_authors_on_the_device"), move |device| {
            check(&folder, device)
        }));
        all.push(trials(Some(&Device::cpu()), format!("{name}::matches_the_authors_on_the_twins"), move |device| {
            check(&twins, device)
        }));
    }
    // Drivers may crash at the end of a process that still has a device.
    libtest_mimic::run(&arguments, all).exit_code()
}

fn check(folder: &Path, device: &Device) -> Result<()> {
    let outcomes = golden::check(folder, device)?;
    // A fixture from which most was cut off would prove nothing.
    ensure!(outcomes.len() > 60, "only {} checks", outcomes.len());
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed())
        .map(|o| format!("{}: error {:.3e}, bound {:.3e}", o.name, o.error, o.bound))
        .collect();
    ensure!(failed.is_empty(), "{} of {} checks fail:\n{}", failed.len(), outcomes.len(), failed.join("\n"));
    Ok(())
}
