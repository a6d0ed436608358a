//! Tests of the engine on every adapter of the machine, and on the CPU reference.
//!
//! To test another driver, set `VK_ICD_FILENAMES`, for example to `/usr/lib/chromium/vk_swiftshader_icd.json`.

mod devices;
mod execution;
mod faults;
mod guard_words;
mod hang;
mod kernels;
mod limits;
mod memory;
mod pieces;
mod pipeline_cache;
mod select;
mod shapes;

/// Result of a test; any error is a failure.
type Outcome = anyhow::Result<()>;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
