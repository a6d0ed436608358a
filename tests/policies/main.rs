//! How tokens are generated: every session policy, and what it promises.

mod batch;
mod diffusion;
mod early_exit;
mod embedding_errors;
mod generation;
mod noise;
mod sampling;
mod scoring;
mod speculation;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
