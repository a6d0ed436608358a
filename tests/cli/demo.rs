//! The embedded demo as somebody meets it who knows nothing of it: its tour of depths, and what it says of itself.

use ruminate_tests::trial;

use crate::call::{output, piped, text};

/// A text that the demo was not trained to continue.
const STRANGE: &str = "Hello, who are you?";

#[trial]
fn a_tour_judges_answers_that_were_cut_off() {
    let shown = text(&output(&["run", "--cpu", "-n", "1"]).stdout);
    assert!(shown.contains("    1 step: C  (wrong)") && shown.contains("  32 steps: A  (right)"), "{shown}");
}

#[trial]
fn flags_that_a_tour_cannot_obey_are_refused() {
    for flag in ["--json", "--show-steps", "--logprobs=2", "--stats", "--profile", "--no-bos", "--no-parse-special"] {
        let done = output(&["run", "--cpu", "--steps=1", flag]);
        let errors = text(&done.stderr);
        let name = flag.split('=').next().unwrap_or(flag);
        assert!(
            done.status.code() == Some(2) && errors.contains(&format!("{name} needs a prompt")),
            "{flag}: {errors}"
        );
        assert!(done.stdout.is_empty(), "{flag}");
    }
}

#[trial]
fn who_takes_the_demo_for_an_assistant_is_told() {
    let hint = "this is the embedded demo, which solves three kinds of puzzles";
    let few = ["--cpu", "--steps=1", "-n=1"];
    for call in [&["run"][..], &["trace"]] {
        let errors = text(&output(&[call, &few, &[STRANGE]].concat()).stderr);
        assert!(errors.contains(hint) && errors.contains("-m MODEL"), "{call:?}: {errors}");
        let errors = text(&output(&[call, &few, &[ruminate::demo::PROMPTS[2].0]].concat()).stderr);
        assert!(!errors.contains(hint), "{call:?}: {errors}");
        let errors = text(&output(&[call, &few, &["-q", STRANGE]].concat()).stderr);
        assert!(errors.is_empty(), "{call:?}: {errors}");
    }
    let errors = text(&output(&["score", "--cpu", "--steps=1", STRANGE]).stderr);
    assert!(errors.contains(hint), "{errors}");
    let line = br#"{"context":"2+2=","continuations":["4","5"]}"#;
    let errors = text(&piped(&["score", "--cpu", "--steps=1", "--continuations=-"], line).stderr);
    assert!(errors.contains(hint), "{errors}");
}

/// A script is not told: what it reads on stderr are answers to its commands.
#[cfg(unix)]
#[trial]
fn who_chats_with_the_demo_is_told_on_a_terminal() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(["chat", "--cpu", "--steps=1", "-n=1", "--no-history"]).env("TERM", "xterm-256color");
    let mut session = crate::pty::typed(command);
    session.exp_string("this is the embedded demo").expect("a hint");
    session.send_control('d').expect("typed");
    crate::pty::leaves_with(&session, 0);
    assert!(piped(&["chat", "--cpu", "--steps=1", "-n=1"], b"").stderr.is_empty());
}

#[trial]
fn every_problem_of_the_demo_is_known_as_one() {
    let problems = ruminate::sweep::Problem::read(ruminate::demo::PROBLEMS, "the demo's problems").expect("problems");
    let strange: Vec<_> = problems.iter().filter(|it| !ruminate::demo::poses_problem(&it.prompt)).collect();
    assert!(problems.len() == 300 && strange.is_empty(), "{strange:?}");
}
