//! Runs the program and checks what it leaves behind.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use ruminate_tests::Folder;

/// The program in a folder that is also the user's home.
pub(crate) fn ruminate(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(arguments).current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("NO_COLOR", "1").env("HOME", home).env_remove("XDG_STATE_HOME").env_remove("XDG_CACHE_HOME");
    command
}

/// Names and sizes of all files below a folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.path().display().to_string();
        if entry.file_type()?.is_dir() {
            found.push((name, 0));
            found.extend(files(&entry.path())?);
        } else {
            found.push((name, entry.metadata()?.len()));
        }
    }
    found.sort();
    Ok(found)
}

/// Runs a call that must exit with `code`, without output or files. Returns stderr.
pub(crate) fn refused(arguments: &[&str], input: Option<&[u8]>, code: i32, words: &[&str]) -> Result<String> {
    let home = Folder::new()?;
    let mut command = ruminate(home.path(), arguments);
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn()?;
    if let Some(input) = input {
        child.stdin.take().context("stdin is piped")?.write_all(input)?;
    }
    let output = child.wait_with_output()?;
    let message = said(&output, code, words).with_context(|| format!("{arguments:?}"))?;
    ensure!(output.stdout.is_empty(), "{arguments:?} printed {:?}", String::from_utf8_lossy(&output.stdout));
    let left = files(home.path())?;
    ensure!(left.is_empty(), "{arguments:?} left {left:?}");
    Ok(message)
}

/// Checks the exit code and words on stderr.
pub(crate) fn said(output: &Output, code: i32, words: &[&str]) -> Result<String> {
    let message = String::from_utf8(output.stderr.clone())?;
    ensure!(output.status.code() == Some(code), "{:?}, expected code {code}: {message}", output.status);
    ensure!(!message.contains("panicked"), "{message}");
    for word in words {
        ensure!(message.contains(word), "{word:?} is not in the message: {message}");
    }
    Ok(message)
}

/// Runs the program on a model folder that must be refused with code 4 and remain unchanged.
pub(crate) fn model_refused(folder: &Folder, words: &[&str]) -> Result<()> {
    model_refused_with(folder, &[], words)
}

/// [`model_refused`] with more flags.
pub(crate) fn model_refused_with(folder: &Folder, flags: &[&str], words: &[&str]) -> Result<()> {
    let before = files(folder.path())?;
    let path = folder.path().to_str().context("the path is UTF-8")?;
    refused(&[&["run", "--cpu", "-m", path, "x"], flags].concat(), None, 4, words)?;
    ensure!(before == files(folder.path())?, "the model's folder was changed");
    Ok(())
}
