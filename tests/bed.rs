//! The device under test and the comparison of a kernel with its twin.

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Failed, Trial};
use ruminate_engine::{Device, OpenOptions, Select, Tier, Tuning, TuningFrom};
use ruminate_shaders::Case;

/// The device under test, if there is one.
#[must_use]
pub fn device() -> Option<Device> {
    match options() {
        Some(options) => Device::open(&options).ok(),
        None => Some(Device::cpu()),
    }
}

/// How the device under test is opened; `None` for the CPU twins.
#[must_use]
pub fn options() -> Option<OpenOptions> {
    let select = match std::env::var("RUMINATE_TEST_GPU") {
        Ok(name) if name == "cpu" => return None,
        Ok(name) => Select::Name(name),
        Err(_) => Select::Best,
    };
    let limits = match std::env::var("RUMINATE_TEST_LIMITS").as_deref() {
        Ok("webgpu") => Tier::WebGpuDefaults,
        _ => Tier::Full,
    };
    let variant =
        std::env::var("RUMINATE_FORCE_VARIANT").ok().map(|n| n.parse().expect("RUMINATE_FORCE_VARIANT is a number"));
    let tuning = variant.map_or(TuningFrom::Defaults, |n| TuningFrom::Given(Tuning::forced(n)));
    Some(OpenOptions { select, limits, tuning, cooperative: true, ..OpenOptions::default() })
}

/// How many of so many random cases are taken: all of them on a device as it is, a quarter where it pretends limits, which makes it many times slower, and few
/// on the twins.
#[must_use]
pub fn cases(device: &Device, all: u64, few: u64) -> u64 {
    let limited = options().is_some_and(|options| options.limits == Tier::WebGpuDefaults);
    match device.is_cpu() {
        true => few,
        false if limited => all / 4,
        false => all,
    }
}

/// A trial that needs a device: ignored, and counted as such, where there is none.
pub fn trials(
    device: Option<&Device>,
    name: String,
    run: impl FnOnce(&Device) -> Result<()> + Send + 'static,
) -> Trial {
    let owned = device.cloned();
    let trial = Trial::test(name, move || match &owned {
        Some(device) => run(device).map_err(|error| Failed::from(format!("{error:#}"))),
        None => Err(Failed::from("no device")),
    });
    trial.with_ignored_flag(device.is_none())
}

/// A test of a device, and its name.
pub type Test = (&'static str, fn(&Device) -> Result<()>);

/// Every test on a device, if there is one, and on the CPU twins.
#[must_use]
pub fn both(device: Option<&Device>, tests: &[Test]) -> Vec<Trial> {
    let cpu = Device::cpu();
    let pair = |&(name, test): &Test| {
        [trials(device, format!("device::{name}"), test), trials(Some(&cpu), format!("twins::{name}"), test)]
    };
    tests.iter().flat_map(pair).collect()
}

/// Runs a case on a device and on the twin, and compares every output.
///
/// # Errors
/// Says which binding differs and by how much.
pub fn run_case(device: &Device, case: &Case) -> Result<()> {
    if device.lacks(&case.launch).is_some() {
        return Ok(());
    }
    let verdict = device.verify(case).with_context(|| case.id())?;
    ensure!(verdict.passed(), "{verdict}");
    Ok(())
}

/// Checks that the normalised mean square error of `found` is at most `bound`.
///
/// # Errors
/// Names the error, or the first value that is not finite.
pub fn compare(found: &[f32], expected: &[f32], bound: f64) -> Result<()> {
    ensure!(found.len() == expected.len(), "{} values, expected {}", found.len(), expected.len());
    if let Some(at) = found.iter().position(|v| !v.is_finite()) {
        bail!("value {at} is {}, expected {}", found[at], expected[at]);
    }
    let pairs = || found.iter().zip(expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let error: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    let power: f64 = pairs().map(|(_, b)| b * b).sum();
    let nmse = if power > 0.0 { error / power } else { error };
    let worst = pairs().enumerate().max_by(|(_, (a, b)), (_, (c, d))| (a - b).abs().total_cmp(&(c - d).abs()));
    ensure!(nmse <= bound, "normalised mean square error {nmse:.3e} above {bound:.0e}; worst: {worst:?}");
    Ok(())
}
