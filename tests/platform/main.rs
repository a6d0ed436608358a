//! Tests of devices and compilers: tuning, the doctor, the validation layer, and the compilers of other platforms.

mod attention;
mod compilers;
mod doctor;
mod doctor_report;
mod marks;
mod pretended;
mod tune;
mod validation;

use std::process::ExitCode;

fn main() -> ExitCode {
    if validation::provoked() || pretended::examined() {
        return ExitCode::SUCCESS;
    }
    ruminate_tests::main()
}
