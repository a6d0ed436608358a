//! The embedded demo: its run at several depths, and its notes for new users.

use ruminate_tests::trial;

use crate::call::{output, piped, text};

/// Text that the demo was not trained to continue.
const STRANGE: &str = "Hello, who are you?";

#[trial]
fn depth_tour_judges_truncated_answers() {
    let shown = text(&output(&["run", "--cpu", "-n", "1"]).stdout);
    assert!(shown.contains("    1 step: C  (wrong)") && shown.contains("  32 steps: A  (right)"), "{shown}");
}

#[trial]
fn flags_for_single_texts_are_refused_without_prompt() {
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
fn prompts_outside_the_demos_training_print_a_hint() {
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

/// A script gets no hint: it reads stderr for answers to its commands.
#[cfg(unix)]
#[trial]
fn chat_with_demo_prints_hint_only_on_terminal() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(["chat", "--cpu", "--steps=1", "-n=1", "--no-history"]).env("TERM", "xterm-256color");
    let mut session = crate::pty::typed(command);
    session.exp_string("this is the embedded demo").expect("a hint");
    session.send_control('d').expect("typed");
    crate::pty::leaves_with(&session, 0);
    assert!(piped(&["chat", "--cpu", "--steps=1", "-n=1"], b"").stderr.is_empty());
}

#[trial]
fn demo_problems_are_recognized() {
    let problems = ruminate::sweep::Problem::read(ruminate::demo::PROBLEMS, "the demo's problems").expect("problems");
    let strange: Vec<_> = problems.iter().filter(|it| !ruminate::demo::poses_problem(&it.prompt)).collect();
    assert!(problems.len() == 300 && strange.is_empty(), "{strange:?}");
}
