//! What `trace` and `sweep` draw: files that are what they say, pages that a browser draws without a complaint, and a view in the
//! terminal that needs no colours. It runs on the CPU twins, so that it needs no driver; pages need a Chromium.

mod browser;
mod pixels;
mod sweep;
mod trace;

use anyhow::{Context, Result, ensure};

use self::browser::Browser;

/// A test by its name.
type Test = (&'static str, fn() -> Result<()>);
/// A test that needs a browser.
type PageTest = (&'static str, fn(&Browser) -> Result<()>);

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let browser = Browser::find();
    let tests = trace::tests().into_iter().chain(sweep::tests());
    let mut all: Vec<Trial> = tests.map(|(name, test)| trial(name, test)).collect();
    for (name, test) in trace::pages().into_iter().chain(sweep::pages()) {
        let found = browser.clone();
        let run = move || test(&found.context("no browser")?);
        all.push(trial(name, run).with_ignored_flag(browser.is_none()));
    }
    libtest_mimic::run(&arguments, all).exit_code()
}

fn trial(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// Runs the program, which must succeed; what it writes to stdout and to stderr.
fn ruminate(arguments: &[&str]) -> Result<(String, String)> {
    let (code, out, said) = ended(arguments)?;
    ensure!(code == Some(0), "{arguments:?} ends with {code:?}: {said}");
    Ok((out, said))
}

/// Runs the program: its exit code, what it writes to stdout, and to stderr.
fn ended(arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ruminate"));
    let done = command.args(arguments).stdin(std::process::Stdio::null()).env("NO_COLOR", "1").output()?;
    Ok((done.status.code(), String::from_utf8(done.stdout)?, String::from_utf8(done.stderr)?))
}
