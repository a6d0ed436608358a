//! Token generation: tests for every session policy.

mod batch;
mod combinations;
mod company;
mod constraint;
mod diffusion;
mod early_exit;
mod embedding_errors;
mod generation;
mod noise;
mod own_passes;
mod polled;
mod rounds;
mod sampling;
mod scoring;
mod speculation;

use ruminate::Criterion;

/// The exit criteria that work with any model: all but the learned gate.
fn criteria() -> impl Iterator<Item = Criterion> {
    Criterion::ALL.into_iter().filter(|criterion| *criterion != Criterion::Gate)
}

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
