//! Runs the command on a pseudo-terminal.
#![cfg(unix)]

use std::process::Command;

use rexpect::session::{PtySession, spawn_command};

/// Timeout for expected output, in milliseconds.
const PATIENCE: u64 = 120_000;

/// Starts a command on a pseudo-terminal.
pub(crate) fn typed(command: Command) -> PtySession {
    spawn_command(command, Some(PATIENCE)).expect("the program starts")
}

/// Asserts that the program exits with `code`.
#[track_caller]
pub(crate) fn leaves_with(session: &PtySession, code: i32) {
    let status = format!("{:?}", session.process().wait().expect("the program ends"));
    assert!(status.starts_with("Exited") && status.ends_with(&format!(", {code})")), "{status}");
}
