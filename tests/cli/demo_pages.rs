//! Compares figures in README.md and docs/, which `docs/figures` wrote, with the current output of the program.

use std::path::Path;

use ruminate_tests::trial;

use crate::call::{ruminate, text};

/// Block or table after the mark of a figure.
#[track_caller]
fn figure(page: &str, name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join(page)).expect("a page");
    let mark = format!("<!-- figures: {name}");
    let rest = page.split(&mark).nth(1).unwrap_or_else(|| panic!("no figure {name}"));
    let rest = rest.split_once("-->").expect("the mark ends").1.trim_start();
    let end = if rest.starts_with("```") { "\n```" } else { "\n\n" };
    rest.split(end).next().unwrap_or_default().to_owned()
}

/// Output of the program, run in the project's folder.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let mut command = ruminate(arguments);
    let done = command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).output().expect("it starts");
    assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
    text(&done.stdout)
}

#[track_caller]
fn holds(figure: &str, lines: &str) {
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        assert!(figure.contains(line), "{line:?} is not in the page; run docs/figures. It has:\n{figure}");
    }
}

#[trial]
fn pages_match_current_output_of_demo() {
    holds(&figure("README.md", "tour"), &printed(&["run", "--cpu"]));
    let call = ["score", "--cpu", "--continuations", "docs/choices.jsonl", "--steps", "1,16"];
    holds(&figure("docs/research.md", "continuations"), &printed(&call));
    // Devices differ in the order of sums, which does not change any answer here.
    let prompt = "The ball is under cup B. Swap AC CD AC AB AB AB CD CE CD DE";
    let figures =
        [("docs/speculation.md", "pipeline", "--pipeline"), ("docs/diffusion.md", "diffusion", "--diffusion")];
    for (page, name, flag) in figures {
        let said = printed(&["run", "--cpu", "-q", flag, "--steps", "32", "--seed", "1", "--temp", "0", prompt]);
        holds(&figure(page, name), &said);
    }
}

/// Compares the messages on the troubleshooting page that do not depend on the machine.
#[trial]
fn troubleshooting_page_shows_current_messages() {
    let cases: [(&str, &[&str]); 4] = [
        ("error-folder", &["run", "-m", "docs", "hi"]),
        ("error-flag", &["run", "--dtype", "int4", "hi"]),
        ("error-together", &["run", "--speculate", "--exit", "kl", "hi"]),
        ("error-context", &["run", "-c", "8", "The ball is under cup C. Swap CE AC AB AD AE"]),
    ];
    for (name, call) in cases {
        let done = ruminate(call).arg("--cpu").current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).output();
        let done = done.expect("it starts");
        assert!(!done.status.success(), "{call:?} succeeds");
        holds(&figure("docs/troubleshooting.md", name), &text(&done.stderr));
    }
}

/// Recomputes a row of the table, to the digits shown.
#[trial(full)]
fn experiments_page_shows_current_cost_of_q8_kv() {
    let call = ["score", "--cpu", "-f", "docs/problems.txt", "-c", "25", "--steps", "1,8", "--json"];
    let found = printed(&[&call[..], &["--kv-dtype", "q8", "--against-kv", "f32"]].concat());
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    let table = figure("docs/experiments.md", "keys-and-values");
    let row = table.lines().find(|line| line.starts_with("| `q8` |")).expect("a row");
    for steps in found["rows"].as_array().expect("rows") {
        let number = |name: &str| steps[name].as_f64().expect("a number");
        for shown in [format!("{:.4}", number("nll")), format!("{:.1e}", number("kl"))] {
            assert!(row.contains(&shown), "{shown} is not in {row}");
        }
    }
}

#[trial(full)]
fn depth_page_shows_current_accuracy_of_demo() {
    let found = printed(&["sweep", "--cpu", "--split", "--steps", "1,4", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    let table = figure("docs/depth.md", "hard-problems");
    for task in ["cups", "dial", "clock"] {
        let row = table.lines().find(|line| line.starts_with(&format!("| {task} |"))).expect("a row");
        let cells: Vec<f64> = row.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
        for (steps, place) in [(1, 0), (4, 2)] {
            let rows = found["rows"].as_array().expect("rows");
            let right = rows.iter().find(|it| it["task"] == format!("{task}, hard") && it["steps"] == steps);
            let right = right.and_then(|it| it["accuracy"].as_f64()).expect("a row");
            assert!(
                (100.0 * right - cells[place]).abs() < 0.06,
                "{task}, {steps} steps: {right}, shown {}",
                cells[place]
            );
        }
    }
}
