//! Device to measure, shared by the benchmarks.
//!
//! `RUMINATE_BENCH_GPU` names an adapter, or `cpu` for the CPU references of the kernels. The default is the best GPU, or the references if there is no GPU. The references
//! are written for readability, not for speed. criterion does not know the device of its last run: keep the figures of each device apart with `--save-baseline`
//! and `--baseline`.

use ruminate_engine::{Device, OpenOptions, Select, TuningFrom};

/// The device to measure.
#[must_use]
pub fn device() -> Device {
    device_with(TuningFrom::Defaults)
}

/// The device to measure, with a tuning.
#[must_use]
pub fn device_with(tuning: TuningFrom) -> Device {
    let select = match std::env::var("RUMINATE_BENCH_GPU") {
        Ok(name) if name == "cpu" => return Device::cpu(),
        Ok(name) => Select::from(name.as_str()),
        Err(_) => Select::Best,
    };
    Device::open(&OpenOptions { select, tuning, ..OpenOptions::default() }).unwrap_or_else(|_| Device::cpu())
}

/// Prints the device on which the figures are taken.
#[expect(clippy::print_stderr, reason = "figures without their device mean nothing, and criterion has no place for it")]
pub fn announce(device: &Device) {
    let kind = device.summary().map_or_else(|| "no GPU was opened".to_owned(), |summary| format!("{:?}", summary.kind));
    eprintln!("device: {} ({kind})", device.name());
}
