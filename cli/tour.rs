//! `ruminate run` without model and prompt: the embedded demo answers one question at several depths.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use ruminate::{GenerateOptions, Model, Sampling, demo};

use crate::exit::Done;
use crate::options::Run;
use crate::run::{generate_options, session_options};

/// Depths that are shown unless one is asked for.
const DEPTHS: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// Tokens of an answer, at most.
const ANSWER: u32 = 8;

/// Shows what depth does.
pub(crate) fn tour(model: &Model, options: &Run, interrupted: &AtomicBool) -> Result<Done> {
    let (prompt, right) = demo::PROMPTS[0];
    let depths = options.steps.map_or(DEPTHS.to_vec(), |steps| vec![steps]);
    if !options.quiet {
        anstream::eprintln!(
            "The embedded demo, {} on {}: the same weights, applied more often. A ball lies under one of five cups; pairs of cups are \
             swapped. Where is it in the end?\n",
            model.dtype().name(),
            model.device().name(),
        );
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{prompt}")?;
    for steps in depths {
        let mut session = model.session(session_options(options))?;
        let asked = GenerateOptions {
            steps: Some(steps),
            max_tokens: Some(options.max_tokens.unwrap_or(ANSWER)),
            sampling: if options.temp.is_some() { generate_options(model, options).sampling } else { Sampling::GREEDY },
            ..generate_options(model, options)
        };
        let mut answer = String::new();
        for piece in session.generate(prompt, &asked)? {
            answer.push_str(&piece?.text);
            if interrupted.load(Ordering::SeqCst) {
                return Ok(Done::Interrupted);
            }
        }
        let verdict = if answer.trim() == right.trim() { "right" } else { "wrong" };
        writeln!(out, "{steps:>4} steps: {}  ({verdict})", answer.trim())?;
        out.flush()?;
    }
    if !options.quiet {
        anstream::eprintln!("\nTry your own: ruminate run --steps 16 \"{}\"", demo::PROMPTS[1].0);
    }
    Ok(Done::Complete)
}
