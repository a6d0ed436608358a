//! Prints the WGSL module of a kernel variant as the engine compiles it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use ruminate_shaders::{Choice, KERNELS, Kernel, assemble};

/// Maximum number of names listed in an error.
const LISTED: usize = 12;

/// Print the WGSL module of a kernel variant as the engine compiles it.
#[derive(Parser)]
struct Arguments {
    /// Label of the variant, such as `rms_norm.subgroup`, or a prefix of exactly one label. Without it, all labels are listed.
    label: Option<String>,
}

/// Kernel variant with its label.
struct Variant {
    label: String,
    kernel: &'static Kernel,
    choice: Choice,
}

fn main() -> ExitCode {
    let text = match text(Arguments::parse().label.as_deref()) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // A reader such as `head` may close the pipe early.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write the module: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// WGSL module of a label, or the list of all labels.
fn text(label: Option<&str>) -> Result<String> {
    let all: Vec<Variant> = KERNELS
        .iter()
        .flat_map(|&kernel| {
            let of = move |choice| Variant { label: kernel.label(choice), kernel, choice };
            kernel.variants().into_iter().map(of)
        })
        .collect();
    let Some(label) = label else { return Ok(all.iter().map(|variant| variant.label.clone() + "\n").collect()) };
    let begun: Vec<&Variant> = all.iter().filter(|variant| variant.label.starts_with(label)).collect();
    let exact = begun.iter().find(|variant| variant.label == label);
    match (exact, &begun[..]) {
        (Some(variant), _) | (None, [variant]) => Ok(assemble(variant.kernel, variant.choice)),
        (None, []) => {
            let mut near: Vec<&str> = all.iter().map(|variant| variant.label.as_str()).collect();
            near.sort_by_cached_key(|known| strsim::damerau_levenshtein(known, label));
            near.truncate(3);
            bail!("unknown label `{label}`; similar: {}; run without a label to list all", near.join(", "));
        }
        (None, several) => {
            let listed: Vec<&str> = several.iter().take(LISTED).map(|variant| variant.label.as_str()).collect();
            let more = if several.len() > LISTED { ", …" } else { "" };
            bail!("`{label}` is a prefix of {} labels, name one: {}{more}", several.len(), listed.join(", "));
        }
    }
}
