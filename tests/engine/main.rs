//! The engine on every adapter of this machine, and on the CPU reference.
//!
//! Another driver is tried by running the suite with `VK_ICD_FILENAMES`, such as `/usr/lib/chromium/vk_swiftshader_icd.json`.

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

/// What a test returns: a failure is any error.
type Outcome = anyhow::Result<()>;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
