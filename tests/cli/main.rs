//! Tests of the command line.

mod bench;
mod book;
mod call;
mod chat;
mod chat_server;
mod chat_terminal;
mod demo;
mod demo_pages;
mod doctor_report;
mod flags;
mod help;
mod messages;
mod names;
mod pictures;
mod pty;
mod structured;
mod terminal;
mod texts;
mod verbs;

fn main() -> std::process::ExitCode {
    ruminate_tests::main()
}
