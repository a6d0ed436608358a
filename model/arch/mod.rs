//! Architectures: one model, one file.

mod raven;
mod resident;
mod tensors;

pub(crate) use raven::{Pass, Raven, ReadOut, Sites};
pub(crate) use tensors::raven_tensors;
