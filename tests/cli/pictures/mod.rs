//! Output of `trace` and `sweep`: files in the right format, pages that a browser renders without errors, and a terminal view that works without
//! colors. The tests run on the CPU reference, so that they need no driver; pages need Chromium.

mod browser;
mod pixels;
mod sweep;
mod trace;

use anyhow::{Result, ensure};

use crate::call::output;

/// Runs the program, which must succeed; returns its stdout and stderr.
fn ruminate(arguments: &[&str]) -> Result<(String, String)> {
    let (code, out, said) = ended(arguments)?;
    ensure!(code == Some(0), "{arguments:?} ends with {code:?}: {said}");
    Ok((out, said))
}

/// Runs the program; returns its exit code, stdout and stderr.
fn ended(arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let done = output(arguments);
    Ok((done.status.code(), String::from_utf8(done.stdout)?, String::from_utf8(done.stderr)?))
}
