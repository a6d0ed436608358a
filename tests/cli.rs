//! The command as a user calls it: what goes where, and the exit codes. It runs on the CPU twins, so that it needs no driver.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const PROMPT: &str = "Ball in C. Swap CE AC AB AD AE";

fn ruminate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

fn output(arguments: &[&str]) -> Output {
    ruminate(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes UTF-8")
}

/// Runs with text on stdin.
fn piped(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = ruminate(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("stdin is piped").write_all(input).expect("the program reads its stdin");
    child.wait_with_output().expect("the program ends")
}

#[test]
fn text_goes_to_stdout_and_figures_to_stderr() {
    let done = output(&["run", "--cpu", "--steps", "16", "--seed", "1", "--stats", PROMPT]);
    assert_eq!(text(&done.stdout), " A.\n");
    let errors = text(&done.stderr);
    assert!(
        errors.contains("16 steps per token") && errors.contains("seed 1") && errors.contains("launches"),
        "{errors}"
    );
    assert_eq!(done.status.code(), Some(0));
}

#[test]
fn quiet_prints_nothing_but_the_text() {
    let done = output(&["run", "--cpu", "--quiet", "--steps", "16", "-p", PROMPT]);
    assert_eq!((text(&done.stdout).as_str(), text(&done.stderr).as_str()), (" A.\n", ""));
}

#[test]
fn without_a_prompt_the_demo_shows_wrong_and_right_depths() {
    let shown = text(&output(&["run", "--cpu"]).stdout);
    assert!(shown.contains("1 steps: D.  (wrong)") && shown.contains("32 steps: A.  (right)"), "{shown}");
}

#[test]
fn the_prompt_may_come_from_stdin_or_a_file() {
    for arguments in [&["run", "--cpu", "-q", "-"][..], &["run", "--cpu", "-q", "-f", "-"], &["run", "--cpu", "-q"]] {
        let done = piped(arguments, format!("{PROMPT}\n").as_bytes());
        assert_eq!(text(&done.stdout), " A.\n", "{arguments:?}: {}", text(&done.stderr));
    }
}

#[test]
fn json_is_one_object_and_with_stream_one_per_token() {
    let whole = output(&["run", "--cpu", "-q", "--json", "--seed", "3", PROMPT]);
    let object: serde_json::Value = serde_json::from_slice(&whole.stdout).expect("one JSON object");
    assert_eq!((object["text"].as_str(), object["stop"].as_str()), (Some(" A."), Some("end_token")));
    assert_eq!(object["seed"], 3);
    let lines = text(&output(&["run", "--cpu", "-q", "--json", "--stream", PROMPT]).stdout);
    let objects: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a JSON object per line")).collect();
    let joined: String = objects.iter().filter_map(|object| object["text"].as_str()).collect();
    assert_eq!(joined, " A.");
    assert_eq!(objects.len(), object["tokens"].as_array().expect("a list of tokens").len() + 1);
}

#[test]
fn completions_know_the_verbs() {
    let script = text(&output(&["completions", "bash"]).stdout);
    assert!(script.contains("devices") && script.contains("--steps"), "no verbs or flags in the script");
}

#[test]
fn a_score_has_a_row_for_each_depth_and_the_distance() {
    let line = ["score", "--cpu", "--steps", "1,4", "--dtype", "q8", "--against", "bf16", "--json", PROMPT];
    let done = output(&line);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let rows = json["rows"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| row["steps"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(4)]);
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
        assert!(number("kl") > 0.0 && number("kl") <= number("kl_most"), "{row}");
        assert!((number("perplexity").ln() - number("nll")).abs() < 1e-9 && number("tokens") > 5.0, "{row}");
    }
    let table = text(&output(&line[..8].iter().chain(&[PROMPT]).copied().collect::<Vec<_>>()).stdout);
    assert!(table.contains("weights in q8") && table.contains("in bf16") && table.lines().count() == 4, "{table}");
    for wrong in [["score", "--cpu", ""], ["score", "--ctx-size=1", PROMPT], ["score", "--steps=0", PROMPT]] {
        assert_eq!(output(&wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(output(&["score", "--cpu", "--ctx-size", "9999", PROMPT]).status.code(), Some(2));
}
