//! Architectures: one model, one file.

mod fused;
mod loader;
mod raven;
mod resident;
mod tensors;

pub(crate) use loader::Weights;
pub(crate) use raven::{Pass, Raven, ReadOut, Sites};
pub(crate) use resident::matrix_bytes_of;
pub(crate) use tensors::raven_tensors;
