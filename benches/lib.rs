//! What the benchmarks share: the device.
//!
//! `RUMINATE_BENCH_GPU` names an adapter, `cpu` the CPU twins of the kernels; by default it is the best GPU, and the twins where there
//! is none. The twins are written to be read, not to be fast, and criterion does not know which device its last run was on: keep the
//! figures of each device apart with `--save-baseline` and `--baseline`.

use ruminate_engine::{Device, OpenOptions, Select, TuningFrom};

/// The device to measure.
#[must_use]
pub fn device() -> Device {
    device_with(TuningFrom::Defaults)
}

/// The same, with a tuning.
#[must_use]
pub fn device_with(tuning: TuningFrom) -> Device {
    let select = match std::env::var("RUMINATE_BENCH_GPU") {
        Ok(name) if name == "cpu" => return Device::cpu(),
        Ok(name) => Select::from(name.as_str()),
        Err(_) => Select::Best,
    };
    Device::open(&OpenOptions { select, tuning, ..OpenOptions::default() }).unwrap_or_else(|_| Device::cpu())
}

/// Says on which device the figures were taken.
#[expect(clippy::print_stderr, reason = "figures without their device mean nothing, and criterion has no place for it")]
pub fn announce(device: &Device) {
    let kind = device.summary().map_or_else(|| "no GPU was opened".to_owned(), |summary| format!("{:?}", summary.kind));
    eprintln!("device: {} ({kind})", device.name());
}
