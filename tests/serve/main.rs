//! Tests of the server.

mod browser;
mod chat;
mod completions;
mod depth;
mod hang;
mod http;
mod life;
mod limits;
mod page;
mod places;
mod refusals;
mod security;
mod soak;
mod structured;
mod tokens;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
