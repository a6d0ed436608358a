//! Golden tests: the checkpoints in this folder against the authors' own code.

mod fixtures;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
