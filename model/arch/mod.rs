//! Architectures: one model, one file.

mod fused;
mod loader;
mod pipeline;
mod raven;
mod resident;
mod settle;
mod tensors;

pub(crate) use loader::{BLOCK, Weights, check};
pub(crate) use pipeline::pipeline;
pub(crate) use raven::{Pass, Raven, ReadOut, Sites};
pub(crate) use resident::{halves_of, matrix_bytes_of};
pub(crate) use settle::ExitSites;
pub(crate) use tensors::raven_tensors;
