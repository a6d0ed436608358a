//! Output on a terminal: colors, progress bars with the time left, and the effect of Ctrl-C.
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
fn tokens_are_colored_by_their_steps() {
    let line = ["run", "--cpu", "--seed=1", "--steps=16", "--show-steps", demo::PROMPTS[1].0];
    let mut session = start(&line);
    session.exp_string("\u{1b}[38;2;").expect("a color");
    session.exp_string("colors: recurrence steps of a token").expect("a legend");
    session.exp_string("here 16").expect("the range of steps");
    leaves_with(&session, 0);
}

#[trial]
fn long_prompt_shows_progress() {
    let prompt = demo::PROMPTS[0].0.repeat(6);
    // More work than any machine does before the bar has a time to show.
    let mut session = start(&["run", "--cpu", "--steps=2000", "-n=1", &prompt]);
    session.exp_string("reading the prompt").expect("a bar");
    session.exp_string(" left").expect("the time left");
    session.send_control('c').expect("typed");
    leaves_with(&session, 130);
}

/// All times left in a text, in seconds.
fn left(text: &str) -> Vec<f64> {
    let words = text.split(" left").filter_map(|before| before.rsplit([' ', ',']).next());
    let seconds = words.filter_map(|word| {
        let (number, unit) = word.split_at(word.len().checked_sub(1)?);
        let unit = [("s", 1.0), ("m", 60.0), ("h", 3600.0)].into_iter().find(|(name, _)| *name == unit)?.1;
        Some(number.parse::<f64>().ok()? * unit)
    });
    seconds.collect()
}

/// The first depths are very fast, and the warm-up of a depth does not count as an answer; neither distorts the estimate.
#[trial(full)]
fn time_left_of_sweep_is_realistic() {
    let began = std::time::Instant::now();
    let mut session = start(&["sweep", "--cpu", "--steps=1,4,32,64", "--exit=none,latent-diff", "-n=12"]);
    let shown = session.exp_eof().expect("it ends");
    let took = began.elapsed().as_secs_f64();
    let most = left(&shown).into_iter().fold(0.0, f64::max);
    assert!(most < 4.0 * took + 5.0, "{most} seconds left were shown for a run of {took}: {shown}");
    assert!(shown.contains("100 %") || took < 4.0 || left(&shown).len() > 1, "{shown}");
    leaves_with(&session, 0);
}

/// At the beginning the time left is unknown and must not be shown as "0s left".
#[trial(full)]
fn time_left_of_prompt_does_not_start_at_zero() {
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
fn interrupted_sweep_prints_finished_rows() {
    let mut session = start(&["sweep", "--cpu", "--steps=1,64"]);
    session.exp_string("64 steps, exit none").expect("the bar of the second depth");
    session.exp_string(" left").expect("the time left");
    session.send_control('c').expect("typed");
    session.exp_string("| task").expect("a table");
    session.exp_string("| all ").expect("rows");
    leaves_with(&session, 130);
}

#[trial]
fn trace_is_colored_on_terminal() {
    let mut session = start(&["trace", "--cpu", "--seed=1", "--steps=8", "-n=2", demo::PROMPTS[1].0]);
    session.exp_string("\u{1b}[48;2;").expect("a color");
    session.exp_string("distance to the final state").expect("a legend");
    leaves_with(&session, 0);
}
