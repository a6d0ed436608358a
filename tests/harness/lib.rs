//! Shared test harness: test registration, the device under test, numeric comparison, and model folders.
//!
//! - `#[trial]` registers a function as a test; [`main`] runs a binary's tests.
//! - The device under test is the first adapter that Vulkan, Metal or DX12 offers, or the one named by `RUMINATE_TEST_GPU` (`cpu`: only the CPU
//!   reference). `RUMINATE_TEST_LIMITS=webgpu` opens it with the limits that WebGPU guarantees and without optional features.
//! - Every trial opens its own device, so that counters cover only that trial. A trial that needs something the machine lacks is counted as ignored.

pub mod compilers;
pub mod demo_files;
#[path = "../golden/check/mod.rs"]
pub mod golden;
pub mod synth;

/// Rust examples in the README and the book, which `cargo test --doc` compiles and runs.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/depth.md")]
    struct Depth;
    #[doc = include_str!("../../docs/library.md")]
    struct Library;
    #[doc = include_str!("../../docs/research.md")]
    struct Research;
    #[doc = include_str!("../../model/README.md")]
    struct Crate;
}

mod compare;
mod device;
mod folder;
mod host;
mod sessions;
mod ties;
mod trial;

pub use compare::compare;
pub use device::{cases, device, limited, options};
pub use folder::{Folder, golden_folder, golden_json, safetensors_file, safetensors_of};
pub use host::{Alive, Host};
pub use inventory;
pub use ruminate_tests_attribute::trial;
pub use sessions::{demo_model, greedy, pieces_of, prompt_of, tokens_of};
pub use ties::near_tie;
pub use trial::{Entry, Outcome, Registered, Run, ignored, main, main_with};
