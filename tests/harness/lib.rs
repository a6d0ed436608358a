//! What all test binaries share: registering tests, the device under test, comparing numbers, and making model folders.
//!
//! - `#[trial]` makes a function a test; [`main`] runs a binary's tests.
//! - The device under test is the first adapter that Vulkan, Metal or DX12 offers, or the one that `RUMINATE_TEST_GPU` names (`cpu`: none, only the CPU
//!   reference). `RUMINATE_TEST_LIMITS=webgpu` opens it with the limits that WebGPU guarantees and no optional features.
//! - Every trial opens a device of its own, so that its counters count that trial alone. What a machine lacks makes a trial ignored, and counted as such.

pub mod compilers;
pub mod demo_files;
#[path = "../golden/check/mod.rs"]
pub mod golden;
pub mod synth;

/// Rust examples of the README and of the book, which `cargo test --doc` compiles and runs.
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
