//! Every case of every kernel on the device under test against its CPU twin, and random shapes.
//!
//! `RUMINATE_TEST_SEED` shifts the random shapes; a failure prints the seed of its case.

use libtest_mimic::{Arguments, Trial};
use ruminate_shaders::KERNELS;
use ruminate_tests::{device, run_case, trials};

/// Random shapes per kernel.
const RANDOM: u64 = 25;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let device = device();
    let first = std::env::var("RUMINATE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0_u64);
    let mut all: Vec<Trial> = Vec::new();
    for kernel in KERNELS {
        all.push(trials(device.as_ref(), format!("{}::cases_match_the_twin", kernel.name), |device| {
            kernel.all_cases().iter().try_for_each(|case| run_case(device, case))
        }));
        all.push(trials(device.as_ref(), format!("{}::random_shapes_match_the_twin", kernel.name), move |device| {
            let cases = (first..first + RANDOM).flat_map(|seed| kernel.random_cases(seed));
            cases.into_iter().try_for_each(|case| run_case(device, &case))
        }));
    }
    // Drivers may crash at the end of a process that still has a device.
    libtest_mimic::run(&arguments, all).exit_code()
}
