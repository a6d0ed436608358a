//! Device under test.

use ruminate_engine::{Device, OpenOptions, Select, Tier};

/// Opens the device under test, if there is one.
#[must_use]
pub fn device() -> Option<Device> {
    options().and_then(|options| Device::open(&options).ok())
}

/// Options for opening the device under test; `None` if only the CPU reference is tested.
///
/// # Panics
/// If `RUMINATE_TEST_LIMITS` has a value other than `webgpu`.
#[must_use]
pub fn options() -> Option<OpenOptions> {
    let select = match std::env::var("RUMINATE_TEST_GPU") {
        Ok(name) if name == "cpu" => return None,
        Ok(name) => Select::from(name.as_str()),
        Err(_) => Select::Best,
    };
    let limits = if limited() { Tier::WebGpuDefaults } else { Tier::Full };
    Some(OpenOptions { select, limits, cooperative: true, ..OpenOptions::default() })
}

/// Whether the device under test is restricted to the limits of WebGPU.
///
/// # Panics
/// If `RUMINATE_TEST_LIMITS` has a value other than `webgpu`.
#[must_use]
pub fn limited() -> bool {
    match std::env::var("RUMINATE_TEST_LIMITS").as_deref() {
        Ok("webgpu") => true,
        Ok(other) if !other.is_empty() => panic!("RUMINATE_TEST_LIMITS is {other:?}; expected webgpu"),
        _ => false,
    }
}

/// Number of random cases to run: `all` on an unrestricted device, a quarter under the limits of WebGPU, which make it many times slower, and `few` on the
/// CPU reference.
#[must_use]
pub fn cases(device: &Device, all: u64, few: u64) -> u64 {
    match device.is_cpu() {
        true => few,
        false if limited() => all / 4,
        false => all,
    }
}
