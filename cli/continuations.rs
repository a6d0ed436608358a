//! `ruminate score --continuations`: likelihoods of several continuations of a context, and how often the right one is the most likely.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result};
use ruminate::{Continuation, Error, Likelihood, LikelihoodOptions, SessionOptions, Spec};
use serde::Deserialize;
use serde_json::json;

use crate::exit_code::{Done, Usage};
use crate::interrupt::Interrupt;
use crate::score::ScoreOptions;
use crate::words::counted;
use crate::{progress, prompt};

/// Line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    context: String,
    continuations: Vec<String>,
    /// Index of the right continuation.
    gold: Option<usize>,
}

/// Runs `ruminate score --continuations`.
pub(crate) fn score(options: &ScoreOptions, file: &Path, interrupt: &Interrupt) -> Result<Done> {
    let text = prompt::whole("the continuations", file)?;
    let choices = read(&text, &file.display().to_string())?;
    if !options.json {
        options.model.argument.note_demo(choices.iter().map(|(_, choice)| choice.context.as_str()));
    }
    let source = options.model.argument.source()?;
    let spec = Spec::open(&source)?;
    let device = options.device.open(options.model.products(), options.json)?;
    let session = SessionOptions {
        context: options.ctx_size,
        steps: options.steps.iter().copied().max(),
        seed: options.seed,
        ..options.cache.session(&spec)?
    };
    let model = options.model.load(&source, &device, session.clone(), options.json)?;
    let place = |line: &usize| format!("{}, line {line}", file.display());
    let (mut asked, mut lines) = (Vec::new(), Vec::new());
    for (line, choice) in &choices {
        for text in &choice.continuations {
            let encoded = Continuation::encode(model.tokenizer(), &choice.context, text);
            asked.push(encoded.with_context(|| place(line))?);
            lines.push(line);
        }
    }
    let depths = if options.steps.is_empty() { vec![spec.steps.default] } else { options.steps.clone() };
    let of = |steps| asked.len() as u64 * model.bytes_per_token(steps);
    let work = depths.iter().map(|&steps| of(steps)).sum();
    let bar = progress::bar(std::io::stderr().is_terminal(), work, "scoring {bar:30} {percent:>3} %{left}, {msg}")?;
    let watch = interrupt.working();
    let mut out = std::io::stdout().lock();
    let mut before = 0;
    for &steps in &depths {
        bar.set_message(counted(steps, "step"));
        let session = session.clone();
        let wanted = LikelihoodOptions {
            steps: Some(steps),
            exit: options.exit.exit(),
            session,
            ..LikelihoodOptions::default()
        };
        let found = model.likelihoods(&asked, &wanted, &mut |done| {
            bar.set_position(before + done as u64 * model.bytes_per_token(steps));
            !watch.stopped()
        });
        let found = found.map_err(|error| match too_long(&asked, &error) {
            Some(at) => anyhow::Error::new(error).context(place(lines[at])),
            None => error.into(),
        })?;
        if found.len() < asked.len() {
            return Ok(Done::Interrupted);
        }
        before += of(steps);
        bar.suspend(|| {
            if options.json {
                as_json(&mut out, &choices, &found, steps)
            } else {
                print(&mut out, &choices, &found, steps)
            }
        })?;
    }
    bar.finish_and_clear();
    if !options.json {
        prompt::note_unread_lines(Some(file), "--continuations");
    }
    Ok(Done::Complete)
}

/// Parses the lines and returns them with their line numbers.
fn read(text: &str, file: &str) -> Result<Vec<(usize, Choice)>> {
    let mut choices = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let wrong = |what: String| Usage(format!("{file}, line {line}: {what}"));
        let choice: Choice = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if choice.continuations.is_empty() || choice.continuations.iter().any(String::is_empty) {
            return Err(wrong("`continuations` needs at least one text, and none may be empty".to_owned()).into());
        }
        if let Some(gold) = choice.gold.filter(|&gold| gold >= choice.continuations.len()) {
            let last = choice.continuations.len() - 1;
            return Err(
                wrong(format!("`gold` is {gold}; expected the index of a continuation, from 0 to {last}")).into()
            );
        }
        choices.push((line, choice));
    }
    if choices.is_empty() {
        return Err(Usage(format!("{file} has no line to score")).into());
    }
    Ok(choices)
}

/// Index of the continuation that an error reports as too long.
fn too_long(asked: &[Continuation], error: &Error) -> Option<usize> {
    let Error::PromptTooLong { context, .. } = error else { return None };
    // The last token is only predicted, never fed.
    asked.iter().position(|it| it.context.len() + it.continuation.len() - 1 > *context as usize)
}

/// Index of the most likely continuation, by log-probability or by log-probability per byte of text.
fn best(choice: &Choice, found: &[Likelihood], per_byte: bool) -> usize {
    let value = |at: usize| found[at].logprob / if per_byte { choice.continuations[at].len() as f64 } else { 1.0 };
    (0..found.len()).max_by(|&a, &b| value(a).total_cmp(&value(b)).then(b.cmp(&a))).unwrap_or(0)
}

/// Pairs each choice with the likelihoods of its continuations.
fn with_scores<'a>(
    choices: &'a [(usize, Choice)],
    found: &'a [Likelihood],
) -> impl Iterator<Item = (&'a Choice, &'a [Likelihood])> {
    let mut rest = found;
    choices.iter().map(move |(_, choice)| {
        let (these, others) = rest.split_at(choice.continuations.len());
        rest = others;
        (choice, these)
    })
}

/// Mean steps per token.
fn taken(found: &[Likelihood]) -> f64 {
    found.iter().map(|it| it.steps).sum::<u64>() as f64 / found.iter().map(|it| f64::from(it.tokens)).sum::<f64>()
}

/// Number of choices with a `gold` index, and the fraction for which it was the most likely, by log-probability and per byte.
fn accuracy(choices: &[(usize, Choice)], found: &[Likelihood]) -> Option<(usize, f64, f64)> {
    let judged: Vec<_> = with_scores(choices, found).filter_map(|(it, these)| Some((it, these, it.gold?))).collect();
    let share = |per_byte| {
        let right = judged.iter().filter(|(choice, these, gold)| best(choice, these, per_byte) == *gold).count();
        right as f64 / judged.len() as f64
    };
    (!judged.is_empty()).then(|| (judged.len(), share(false), share(true)))
}

fn print(out: &mut impl Write, choices: &[(usize, Choice)], found: &[Likelihood], steps: u32) -> Result<()> {
    writeln!(out, "{}, {:.1} taken per token", counted(steps, "step"), taken(found))?;
    writeln!(out, "{:>12}  {:>6}  {:>6}  continuation", "nats", "tokens", "greedy")?;
    for (choice, these) in with_scores(choices, found) {
        let likely = best(choice, these, false);
        for (at, (text, it)) in choice.continuations.iter().zip(these).enumerate() {
            let mark = if at == likely && these.len() > 1 { "  ← most likely" } else { "" };
            let gold = if choice.gold == Some(at) { "  right" } else { "" };
            let greedy = if it.greedy { "yes" } else { "no" };
            writeln!(out, "{:>12.4}  {:>6}  {greedy:>6}  {text:?}{mark}{gold}", -it.logprob, it.tokens)?;
        }
    }
    if let Some((count, plain, per_byte)) = accuracy(choices, found) {
        writeln!(out, "right: {:.1} % of {count}, {:.1} % by nats per byte", plain * 100.0, per_byte * 100.0)?;
    }
    Ok(())
}

fn as_json(out: &mut impl Write, choices: &[(usize, Choice)], found: &[Likelihood], steps: u32) -> Result<()> {
    let lines = with_scores(choices, found).map(|(choice, these)| {
        let each = these.iter().map(|it| json!({ "logprob": it.logprob, "greedy": it.greedy, "tokens": it.tokens, "steps": it.steps }));
        json!({ "context": choice.context, "continuations": each.collect::<Vec<_>>(), "best": best(choice, these, false), "gold": choice.gold })
    });
    let mut object = json!({ "steps": steps, "steps_taken": taken(found), "choices": lines.collect::<Vec<_>>() });
    if let Some((count, plain, per_byte)) = accuracy(choices, found) {
        object["accuracy"] = json!({ "of": count, "plain": plain, "per_byte": per_byte });
    }
    writeln!(out, "{object}")?;
    Ok(())
}
