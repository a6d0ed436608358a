//! What the tests share: the device under test, running a kernel's case on it, and comparing numbers.
//!
//! The device is the first adapter that Vulkan, Metal or DX12 offers, or the one that `RUMINATE_TEST_GPU` names (`cpu`: the twins).
//! `RUMINATE_TEST_LIMITS=webgpu` pretends the limits that WebGPU guarantees. Without a device, tests that need one are reported
//! as ignored.

#[path = "golden_check/mod.rs"]
pub mod golden;

pub mod demo_files;
pub mod synth;

#[path = "compilers/mod.rs"]
pub mod compilers;

mod bed;
mod folder;

pub use bed::{compare, device, run_case, trials};
pub use folder::{Folder, golden_folder, golden_json, safetensors_file, safetensors_of};
