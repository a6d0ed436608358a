//! The engine on every adapter of this machine, and on the CPU twins. Every test opens a device of its own, so that counters
//! are its own too. A test that needs a GPU where there is none is reported as ignored.
//!
//! Another driver is tried by running the suite with `VK_ICD_FILENAMES`, such as `/usr/lib/chromium/vk_swiftshader_icd.json`.

mod devices;
mod execution;
mod faults;
mod kernels;
mod memory;
mod pieces;
mod shapes;

use std::process::ExitCode;

use ruminate_engine::{Device, OpenOptions, Select, adapters};

/// What a test returns: a failure is any error.
type Outcome = Result<(), Failed>;
/// A test with its name.
type Test = (&'static str, fn(&Device) -> Outcome);

/// Which devices a test is for.
enum On {
    /// Every adapter and the CPU twins.
    All,
    /// Adapters only.
    Gpu,
}

fn main() -> ExitCode {
    let groups: [(On, &[Test]); 11] = [
        (On::All, execution::TESTS),
        (On::Gpu, execution::GPU_TESTS),
        (On::All, pieces::TESTS),
        (On::Gpu, pieces::GPU_TESTS),
        (On::All, memory::TESTS),
        (On::Gpu, memory::GPU_TESTS),
        (On::All, shapes::TESTS),
        (On::Gpu, shapes::GPU_TESTS),
        (On::Gpu, faults::GPU_TESTS),
        (On::All, devices::TESTS),
        (On::Gpu, devices::GPU_TESTS),
    ];
    let found = adapters(OpenOptions::default().backends);
    let mut trials = Vec::new();
    for (on, tests) in groups {
        for &(name, test) in tests {
            for adapter in &found {
                let options = OpenOptions { select: Select::Index(adapter.index), ..OpenOptions::default() };
                trials.push(Trial::test(format!("{name} on {}", adapter.name), move || test(&Device::open(&options)?)));
            }
            if found.is_empty() {
                let absent = || Err("no adapter to run on".into());
                trials.push(Trial::test(format!("{name} on a GPU"), absent).with_ignored_flag(true));
            }
            if matches!(on, On::All) {
                trials.push(Trial::test(format!("{name} on the CPU twins"), move || test(&Device::cpu())));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
