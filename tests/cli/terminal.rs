//! What is seen on a terminal: colours, bars with the time left, and what Ctrl-C leaves.
#![cfg(unix)]

use std::process::Command;

use rexpect::session::PtySession;
use ruminate::demo;
use ruminate_tests::trial;

use crate::pty::{leaves_with, typed};

fn start(arguments: &[&str]) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(arguments).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    typed(command)
}

#[trial]
fn tokens_have_the_colours_of_their_steps() {
    let line = ["run", "--cpu", "--seed=1", "--steps=16", "--show-steps", demo::PROMPTS[1].0];
    let mut session = start(&line);
    session.exp_string("\u{1b}[38;2;").expect("a colour");
    session.exp_string("colours: recurrence steps of a token").expect("a legend");
    session.exp_string("here 16").expect("what was seen");
    leaves_with(&session, 0);
}

#[trial]
fn a_long_prompt_says_how_far_it_is() {
    let prompt = demo::PROMPTS[0].0.repeat(6);
    let mut session = start(&["run", "--cpu", "--steps=64", "-n=1", &prompt]);
    session.exp_string("reading the prompt").expect("a bar");
    session.exp_string(" left").expect("the time left");
    session.send_control('c').expect("typed");
    leaves_with(&session, 130);
}

#[trial]
fn a_sweep_that_is_interrupted_shows_what_is_there() {
    let mut session = start(&["sweep", "--cpu", "--steps=1,64"]);
    session.exp_string("64 steps, exit none").expect("the bar of the second depth");
    session.exp_string(" left").expect("the time left");
    session.send_control('c').expect("typed");
    session.exp_string("| task").expect("a table");
    session.exp_string("| all ").expect("rows");
    leaves_with(&session, 130);
}

#[trial]
fn a_trace_is_coloured() {
    let mut session = start(&["trace", "--cpu", "--seed=1", "--steps=8", "-n=2", demo::PROMPTS[1].0]);
    session.exp_string("\u{1b}[48;2;").expect("a colour");
    session.exp_string("distance to the final state").expect("a legend");
    leaves_with(&session, 0);
}
