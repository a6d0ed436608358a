//! What the tests share: the device under test, running a kernel's case on it, and comparing numbers.
//!
//! The device is the first adapter that Vulkan, Metal or DX12 offers, or the one that `RUMINATE_TEST_GPU` names (`cpu`: the twins).
//! `RUMINATE_FORCE_VARIANT=N` takes the N-th variant of every launch that has some, counted round.
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
mod host;
mod ties;

pub use bed::{Test, both, cases, compare, device, options, run_case, trials};
pub use folder::{Folder, golden_folder, golden_json, safetensors_file, safetensors_of};
pub use host::{Alive, Host};
pub use ties::near_tie;
