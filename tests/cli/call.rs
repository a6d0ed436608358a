//! Runs the command and reads its output.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// The command without colors and with empty stdin.
pub(crate) fn ruminate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// Runs the command to its end.
pub(crate) fn output(arguments: &[&str]) -> Output {
    ruminate(arguments).output().expect("the program starts")
}

/// Runs the command with `input` on stdin.
pub(crate) fn piped(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = ruminate(arguments);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("stdin is piped").write_all(input).expect("the program reads its stdin");
    child.wait_with_output().expect("the program ends")
}

/// Output of the command as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8")
}
