//! Robustness tests: bad input, broken servers, and hostile environments.

mod bad_input;
mod command;
mod device_trouble;
mod other_writers;
#[cfg(feature = "pull")]
mod pull;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
