//! Speedup of sequences that share passes, and the delay that a long prompt causes for sequences that decode meanwhile.
//!
//! First, the bench measures the tokens per second of one sequence and of eight that decode together, alternately. Then a prompt of 2,000 tokens arrives while
//! eight sequences decode: the bench compares the prompt's rows with those that it takes alone, and measures the longest time between two tokens of another
//! sequence. The model has random weights and the width of a model of 0.1 billion parameters; an argument names another shape, as after `synthetic:`.
//!
//! ```console
//! $ cargo bench -p ruminate-benches --bench company
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ruminate::{Batch, BatchOptions, Event, GenerateOptions, LoadOptions, Model, Sampling, SequenceId, SessionOptions};
use ruminate::{Synthetic, Totals};
use ruminate_benches::{announce, device};

type Failure = Box<dyn std::error::Error>;

const MODEL: &str = "n_embd=1536,heads=16,hidden=5120,vocab=8192,layers=2/4/2";
/// Steps per token.
const STEPS: u32 = 4;
/// Tokens that each sequence generates after its first.
const TOKENS: u32 = 12;
/// Sequences that decode together.
const COMPANY: u32 = 8;
/// Tokens of the prompt that arrives.
const LONG: u32 = 2000;
/// Timed rounds, of which the median counts.
const ROUNDS: usize = 3;

#[expect(clippy::print_stdout, reason = "these are the figures")]
fn main() -> Result<(), Failure> {
    let device = device();
    announce(&device);
    let asked = std::env::args().skip(1).find(|it| it != "--bench");
    let name = asked.unwrap_or_else(|| MODEL.to_owned());
    let model = Model::open(&Synthetic::parse(&name)?.source(), &device, LoadOptions::default())?;
    println!("{name}, {STEPS} steps, medians of {ROUNDS} rounds\n");

    let (mut one, mut all) = (Vec::new(), Vec::new());
    // The first round compiles.
    for round in 0..=ROUNDS {
        let pair = (tokens_per_second(&model, 1)?, tokens_per_second(&model, COMPANY)?);
        if round > 0 {
            one.push(pair.0);
            all.push(pair.1);
        }
    }
    let ratios = one.iter().zip(&all).map(|(one, all)| all / one).collect();
    println!("| sequences | tokens/s |\n|---|---|");
    println!("| 1 | {:.2} |\n| {COMPANY} | {:.2} |", median(one), median(all));
    println!("\n{:.2} times the tokens per second of one\n", median(ratios));

    let alone = long_prompt(&model, 0)?;
    let beside = long_prompt(&model, COMPANY)?;
    println!(
        "A prompt of {LONG} tokens | rows of passes | seconds to its first token | longest time between tokens of another\n---|---|---|---"
    );
    println!("alone | {} | {:.1} | ", alone.rows, alone.first.as_secs_f64());
    let (rows, first, gap) = (beside.rows, beside.first.as_secs_f64(), beside.gap.as_secs_f64());
    println!("beside {COMPANY} that decode | {rows} | {first:.1} | {gap:.2} s");
    println!("\n{:.2} times the rows that it takes alone", rows as f64 / alone.rows as f64);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn options(tokens: u32) -> GenerateOptions {
    GenerateOptions {
        steps: Some(STEPS),
        max_tokens: Some(tokens),
        sampling: Sampling::GREEDY,
        // Random weights may choose an end token.
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    }
}

fn batch(model: &Model, context: u32) -> Result<Batch, ruminate::Error> {
    let session = SessionOptions { context: Some(context), steps: Some(STEPS), ..SessionOptions::default() };
    model.batch(BatchOptions { sequences: COMPANY + 1, session, ..BatchOptions::default() })
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| 1 + i * 37 % 8000).collect()
}

/// Tokens per second from the time at which every sequence has its first token.
fn tokens_per_second(model: &Model, sequences: u32) -> Result<f64, Failure> {
    let mut batch = batch(model, 128)?;
    for seed in 0..sequences {
        batch.add(&prompt(4), seed.into(), &options(TOKENS + 1))?;
    }
    let mut begun = 0;
    let mut start = Instant::now();
    let mut tokens = 0;
    let mut seen: HashMap<SequenceId, u32> = HashMap::new();
    while let Some(event) = batch.wait()? {
        let Event::Token { id, .. } = event else { continue };
        let count = seen.entry(id).or_default();
        *count += 1;
        if begun == sequences {
            tokens += 1;
        } else if *count == 1 {
            begun += 1;
            start = Instant::now();
        }
    }
    Ok(f64::from(tokens) / start.elapsed().as_secs_f64())
}

/// Cost of a long prompt.
struct Arrival {
    /// Rows of passes from its arrival to its first token, without the rows for tokens of other sequences.
    rows: u64,
    first: Duration,
    /// Longest time between two tokens of another sequence meanwhile.
    gap: Duration,
}

fn long_prompt(model: &Model, company: u32) -> Result<Arrival, Failure> {
    let mut batch = batch(model, LONG + 64)?;
    for seed in 0..company {
        batch.add(&prompt(4), seed.into(), &options(LONG))?;
    }
    let mut last: HashMap<SequenceId, Instant> = HashMap::new();
    while last.len() < company as usize {
        if let Some(Event::Token { id, .. }) = batch.wait()? {
            last.insert(id, Instant::now());
        }
    }
    // The batch measures the pace of its passes and compiles its kernels first.
    for _ in 0..4 * company {
        batch.wait()?;
    }
    let (begun, before) = (Instant::now(), batch.totals());
    let long = batch.add(&prompt(LONG), 99, &options(1))?;
    last.values_mut().for_each(|time| *time = begun);
    let mut gap = Duration::ZERO;
    loop {
        let event = batch.wait()?.ok_or("the prompt brought no token")?;
        let Event::Token { id, .. } = event else { continue };
        let now = Instant::now();
        if id == long {
            let Totals { rows, steps, .. } = batch.totals();
            // A token of another sequence takes one row for each of its steps.
            return Ok(Arrival { rows: rows - before.rows - (steps - before.steps), first: now - begun, gap });
        }
        let time = last.insert(id, now).unwrap_or(begun);
        gap = gap.max(now - time);
    }
}
