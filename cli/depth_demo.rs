//! `ruminate run` without a model and a prompt: the embedded demo answers one question at several depths.

use std::io::Write;

use anyhow::Result;
use ruminate::{GenerateOptions, Model, Progress, Sampling, SessionOptions, demo};

use crate::exit_code::Done;
use crate::interrupt::Interrupt;
use crate::progress::Tokens;
use crate::run::Run;
use crate::words::counted;

/// Depths shown without `--steps`.
const DEPTHS: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// Maximum number of tokens of an answer.
const ANSWER: u32 = 8;

/// Default seed of the initial states. With another seed, a guess at one step may happen to be right.
const SEED: u64 = 1;

/// Whether an answer is right. The final period is ignored, because `--max-tokens` may cut it off.
fn is_right(answer: &str, right: &str) -> bool {
    let bare = |text: &str| text.trim().trim_end_matches('.').to_owned();
    bare(answer) == bare(right)
}

/// Prints the demo's answer at each depth.
pub(crate) fn show_depths(model: &Model, options: &Run, interrupt: &Interrupt) -> Result<Done> {
    let (prompt, right) = demo::PROMPTS[0];
    let flags = &options.generation;
    let depths = flags.steps.map_or(DEPTHS.to_vec(), |steps| vec![steps]);
    if !options.quiet {
        remark!(
            "The embedded demo, {} on {}: the same weights, applied more often. A ball lies under one of five cups; pairs of cups are \
             swapped. Where is it in the end?\n",
            model.dtypes(),
            model.device().name(),
        );
    }
    let usual = flags.generate(model, options.quiet)?;
    let watch = interrupt.generating();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{prompt}")?;
    for steps in depths {
        let seed = flags.seed.unwrap_or(SEED);
        let mut session = model.session(SessionOptions { seed, ..flags.session(model.spec())? })?;
        let asked = GenerateOptions {
            steps: Some(steps),
            max_tokens: Some(flags.max_tokens.unwrap_or(ANSWER)),
            sampling: if flags.sampling.temp.is_some() {
                usual.sampling
            } else {
                Sampling { temperature: 0.0, ..usual.sampling }
            },
            ..usual.clone()
        };
        let mut answer = String::new();
        let mut coming = Tokens::new(options.quiet);
        let mut generation = session.generate(prompt, &asked)?;
        loop {
            if watch.stopped() {
                return Ok(Done::Interrupted);
            }
            match coming.next(&mut generation)? {
                Progress::Token(piece) => answer.push_str(&piece.text),
                Progress::Done(_) => break,
                _ => {}
            }
        }
        let verdict = if is_right(&answer, right) { "right" } else { "wrong" };
        writeln!(out, "{:>10}: {}  ({verdict})", counted(steps, "step"), answer.trim())?;
        out.flush()?;
    }
    if !options.quiet {
        remark!("\nTry your own: ruminate run --steps 16 \"{}\"", demo::PROMPTS[1].0);
    }
    Ok(Done::Complete)
}

#[cfg(test)]
mod tests {
    use super::is_right;

    #[test]
    fn an_answer_that_was_cut_after_its_word_is_right() {
        assert!(is_right(" A.", " A.") && is_right(" A", " A."));
        assert!(!is_right(" AB", " A.") && !is_right("", " A.") && !is_right(" A. B", " A."));
    }
}
