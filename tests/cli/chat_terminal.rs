//! `ruminate chat` on a pseudo-terminal, with line editing, history and Ctrl-C.
#![cfg(unix)]

use std::path::Path;
use std::process::Command;

use rexpect::session::PtySession;
use ruminate_tests::trial;

use crate::pty::{leaves_with, typed};

fn start(state: &Path, arguments: &[&str]) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(["chat", "--cpu", "--seed", "1"]).args(arguments);
    command.env("NO_COLOR", "1").env("TERM", "xterm").env("XDG_STATE_HOME", state);
    let mut session = typed(command);
    session.exp_string("/help lists the commands").expect("a greeting");
    session.exp_string("> ").expect("a prompt");
    session
}

#[trial]
fn typed_lines_are_answered_and_kept_in_history() {
    let state = tempfile::tempdir().expect("a folder");
    let mut session = start(state.path(), &["--steps", "16"]);
    session.send_line("Ball in C. Swap CE AC AB AD AE").expect("typed");
    session.exp_string(" C.").expect("the answer");
    session.exp_string("> ").expect("a prompt");
    session.send_control('d').expect("typed");
    leaves_with(&session, 0);
    let history = std::fs::read_to_string(state.path().join("ruminate").join("chat_history")).expect("a history");
    assert!(history.contains("Ball in C. Swap CE AC AB AD AE"), "{history}");

    let mut session = start(state.path(), &["--steps", "16", "--no-history"]);
    session.send_line("/quit").expect("typed");
    leaves_with(&session, 0);
    let after = std::fs::read_to_string(state.path().join("ruminate").join("chat_history")).expect("a history");
    assert_eq!(history, after, "--no-history changed the history");
}

#[trial]
fn enter_after_backslash_begins_another_line() {
    let state = tempfile::tempdir().expect("a folder");
    let path = state.path().join("chat.json");
    let mut session = start(state.path(), &["--steps", "1", "-n", "1"]);
    session.send_line("one\\").expect("typed");
    session.send_line("two").expect("typed");
    // Input typed during an answer is lost.
    session.exp_string("limit on tokens").expect("the answer ends");
    session.exp_string("> ").expect("a prompt");
    session.send_line(&format!("/save {}", path.display())).expect("typed");
    session.exp_string("saved to").expect("a remark");
    session.send_line("/quit").expect("typed");
    leaves_with(&session, 0);
    let messages: serde_json::Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    assert_eq!(messages[0]["content"], "one\ntwo");
}

#[trial]
fn ctrl_c_stops_every_answer_and_exits_at_prompt() {
    let state = tempfile::tempdir().expect("a folder");
    let mut session = start(state.path(), &["--steps", "3000", "--temp", "0"]);
    for message in ["hi", "ho"] {
        session.send_line(message).expect("typed");
        // The message is echoed before the answer begins.
        session.exp_string(message).expect("an echo");
        std::thread::sleep(std::time::Duration::from_millis(500));
        session.send_control('c').expect("typed");
        session.exp_string("(stopped").expect("the answer stops");
        session.exp_string("> ").expect("a prompt");
    }
    session.send_control('c').expect("typed");
    leaves_with(&session, 130);
}
