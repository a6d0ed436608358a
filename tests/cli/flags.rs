//! Flags that replace parts of older spellings, and flags known from llama.cpp.

use anyhow::{Result, ensure};
use ruminate_tests::{golden_folder, trial};

use crate::call::{output, piped, text};

const PROMPT: &str = "The ball is under cup C. Swap CE AC AB AD AE";

/// JSON object of a run of the demo, without timings.
fn run(flags: &[&str]) -> Result<serde_json::Value> {
    let call = [&["run", "--cpu", "-q", "--json", "--seed", "1", "--steps", "8", "-n", "3", "--logprobs", "2"], flags]
        .concat();
    let done = output(&[&call[..], &[PROMPT]].concat());
    ensure!(done.status.success(), "{flags:?}: {}", text(&done.stderr));
    let object: serde_json::Value = serde_json::from_slice(&done.stdout)?;
    Ok(["text", "tokens", "logprobs", "steps_per_token", "core_passes_per_token", "dtype"]
        .map(|name| object[name].clone())
        .into())
}

#[trial]
fn separate_flags_equal_the_older_spelling() -> Result<()> {
    let ouro = golden_folder("ouro");
    let ouro = ouro.to_str().expect("a path in UTF-8");
    let plain = ["--diffusion", "--temp", "0"];
    let diffusion = |flags: &[&'static str]| run(&[&plain[..], flags].concat());
    let pairs = [
        (run(&["--dtype", "q8", "--arithmetic", "int8"])?, run(&["--dtype", "q8,products=int8"])?),
        (run(&["--noise", "fixed=0.5", "--noise-raw"])?, run(&["--noise", "fixed=0.5,raw"])?),
        (
            diffusion(&["--noise-mix", "0.5", "--noise-schedule", "constant"])?,
            diffusion(&["--noise-mix", "0.5,constant"])?,
        ),
        (diffusion(&["--freeze-authors"])?, diffusion(&["--freeze", "latent-diff,authors"])?),
        (
            run(&["-m", ouro, "--exit", "gate", "--exit-posthoc", "--exit-threshold", "0.4"])?,
            run(&["-m", ouro, "--exit", "gate,posthoc", "--exit-threshold", "0.4"])?,
        ),
    ];
    for (separate, older) in pairs {
        ensure!(separate == older, "{separate} differs from {older}");
    }
    ensure!(run(&["--dtype", "q8", "--arithmetic", "int8"])? != run(&["--dtype", "q8"])?, "--arithmetic has no effect");
    ensure!(
        run(&["--noise", "fixed=0.5", "--noise-raw"])? != run(&["--noise", "fixed=0.5"])?,
        "--noise-raw has no effect"
    );
    Ok(())
}

#[trial]
fn max_tokens_minus_one_means_no_limit() -> Result<()> {
    let said = |limit: &str| output(&["run", "--cpu", "-q", "--seed", "1", "--steps", "8", "-n", limit, PROMPT]);
    let unlimited = output(&["run", "--cpu", "-q", "--seed", "1", "--steps", "8", PROMPT]);
    ensure!(text(&said("-1").stdout) == text(&unlimited.stdout), "-n -1 differs from no -n");
    for wrong in ["0", "-2", "x", "4294967296"] {
        ensure!(said(wrong).status.code() == Some(2), "-n {wrong}");
    }
    Ok(())
}

#[trial]
fn chat_acknowledges_steps_and_temperature_and_says_bye() -> Result<()> {
    let chat = golden_folder("tiny");
    let chat = chat.to_str().expect("a path in UTF-8");
    let call = ["chat", "--cpu", "-m", chat, "--temp", "0.5"];
    let done = piped(&call, b"/temp\n/temp 0\n/steps 3\n/temp -1\n/bye\nunread\n");
    let remarks = text(&done.stderr);
    for expected in ["temperature 0.5", "temperature 0)", "3 steps per token", "/temp needs a number of at least 0"] {
        ensure!(remarks.contains(expected), "{expected:?} is not in {remarks}");
    }
    ensure!(done.stdout.is_empty(), "an answer after /bye: {}", text(&done.stdout));
    Ok(())
}
