//! What `trace` and `sweep` draw: files that are what they say, pages that a browser draws without a complaint, and a view in the
//! terminal that needs no colours. It runs on the CPU twins, so that it needs no driver; pages need a Chromium.

mod browser;
mod pixels;
mod sweep;
mod trace;

use anyhow::{Result, ensure};

use crate::call::output;

/// Runs the program, which must succeed; what it writes to stdout and to stderr.
fn ruminate(arguments: &[&str]) -> Result<(String, String)> {
    let (code, out, said) = ended(arguments)?;
    ensure!(code == Some(0), "{arguments:?} ends with {code:?}: {said}");
    Ok((out, said))
}

/// Runs the program: its exit code, what it writes to stdout, and to stderr.
fn ended(arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let done = output(arguments);
    Ok((done.status.code(), String::from_utf8(done.stdout)?, String::from_utf8(done.stderr)?))
}
