//! Kernel tests: all cases and variants against the CPU reference, and all modules through naga.

mod cases;
mod declarations;
mod ids;
mod modules;
mod variants;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--ids"] {
        cases::print_ids();
        return ExitCode::SUCCESS;
    }
    match cases::chosen(&arguments) {
        Some(Ok(code)) => code,
        Some(Err(error)) => {
            eprintln!("kernels: {error:#}");
            ExitCode::from(2)
        }
        None => ruminate_tests::main(),
    }
}
