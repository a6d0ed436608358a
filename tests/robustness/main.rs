//! Bad input, broken servers, and machines that are not as they should be.

mod bad_input;
mod command;
mod device_trouble;
mod other_writers;
#[cfg(feature = "pull")]
mod pull;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
