//! A small GPU compute engine on wgpu: devices, graphs with a structured loop, plans and an executor. It does not depend on any model, and the only kernels
//! that it names measure devices and gate loops; it interprets [`Launch`](shaders::Launch)es.
//!
//! How it works, along the flow of data:
//!
//! 1. [`Device::open`] opens an adapter with all of its limits ([`adapters`] lists adapters); [`Device::cpu`] runs the kernels' CPU references
//!    instead, with the same interface.
//! 2. A [`Graph`] records launches on logical tensors. [`Graph::repeat`] is its only control structure: each execution says how often a loop
//!    runs. [`Graph::repeat_while_live`] is for rows that may exit before: once all have, the loop's launches have no workgroups.
//! 3. [`Device::plan`] turns it into a [`Plan`]: pipelines, scratch buffers shared by tensors that don't live at the same
//!    time, bind groups, parameters.
//! 4. [`Device::execute`] encodes and submits a plan. It creates nothing and never waits; it splits the work into submissions
//!    that are short enough for watchdogs. Results come back through a [`ReadBack`] ticket. A host with frames to draw executes plans
//!    in pieces: [`Device::begin`].
//!
//! Device faults never cause a panic: the first one is kept, and every later call returns it as an [`Error`].

mod adapter;
pub mod bench;
mod buffer;
pub mod clock;
mod codes;
mod counters;
mod cpu;
mod device;
mod error;
mod exec;
mod find;
mod gates;
mod gpu;
mod graph;
mod identity;
mod limits;
mod liveness;
mod memory;
mod open;
mod pace;
mod pipeline;
mod pipeline_cache;
mod plan;
mod pretend;
mod probe;
mod profile;
mod readback;
mod select;
mod texels;
mod tune;
mod verify;
mod wake;
mod walk;
mod warm;
mod watchdog;

pub use ruminate_shaders as shaders;
pub use wgpu;

pub use adapter::{AdapterSummary, Kind, OpenOptions, Tier, adapters, backend};
pub use buffer::Buffer;
pub use codes::ERROR_CODES;
pub use counters::Counters;
pub use device::Device;
pub use error::{Error, Result};
pub use exec::Execution;
pub use find::find;
pub use gates::{LOOPS, LoopWay};
pub use graph::{Count, Graph, Tensor};
pub use identity::{NoPciAddress, PciAddress, Uuid};
pub use limits::{LowLimit, REQUIRED_LIMITS, RequiredLimit};
pub use memory::Memory;
pub use pipeline_cache::PipelineCache;
pub use plan::Plan;
#[doc(hidden)]
pub use pretend::Pretend;
pub use profile::{Profile, ProfileEntry};
pub use readback::ReadBack;
pub use select::Select;
pub use tune::{GAIN, Tuned, Tuning, TuningFrom, tune, tune_loops};
pub use verify::{Comparison, Overrun, Verdict};
