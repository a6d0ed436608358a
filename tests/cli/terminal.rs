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
    session.exp_string("colors: recurrence steps of a token").expect("a legend");
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

/// Seconds that a text says are left, at every place where it does.
fn left(text: &str) -> Vec<f64> {
    let words = text.split(" left").filter_map(|before| before.rsplit([' ', ',']).next());
    let seconds = words.filter_map(|word| {
        let (number, unit) = word.split_at(word.len().checked_sub(1)?);
        let unit = [("s", 1.0), ("m", 60.0), ("h", 3600.0)].into_iter().find(|(name, _)| *name == unit)?.1;
        Some(number.parse::<f64>().ok()? * unit)
    });
    seconds.collect()
}

/// The first depths take next to nothing, and what is made ready for a depth is no answer: neither makes hours of seconds.
#[trial(full)]
fn the_time_left_of_a_sweep_is_near_what_it_takes() {
    let began = std::time::Instant::now();
    let mut session = start(&["sweep", "--cpu", "--steps=1,4,32,64", "--exit=none,latent-diff", "-n=12"]);
    let shown = session.exp_eof().expect("it ends");
    let took = began.elapsed().as_secs_f64();
    let most = left(&shown).into_iter().fold(0.0, f64::max);
    assert!(most < 4.0 * took + 5.0, "{most} seconds were said to be left of {took}: {shown}");
    assert!(shown.contains("100 %") || took < 4.0 || left(&shown).len() > 1, "{shown}");
    leaves_with(&session, 0);
}

/// At the beginning nobody knows, and nothing is said instead of "0s left".
#[trial(full)]
fn the_time_left_of_a_prompt_does_not_begin_at_nothing() {
    let prompt = demo::PROMPTS[0].0.repeat(10);
    let mut session = start(&["run", "--cpu", "--steps=128", "-n=1", &prompt]);
    let shown = session.exp_eof().expect("it ends");
    for line in shown.split("reading the prompt").filter(|line| line.contains(" %")) {
        let done = line.split(" %").next().and_then(|text| text.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0);
        let none = left(line).first().is_some_and(|&seconds| seconds < 1.0);
        assert!(!(done < 50.0 && none), "{line}");
    }
    assert!(shown.contains(" left"), "{shown}");
    leaves_with(&session, 0);
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
