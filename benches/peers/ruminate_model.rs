//! Whole models by Ruminate: synthetic weights of a given shape.

use std::time::Instant;

use anyhow::{Context, Result};
use ruminate::{Device, GenerateOptions, LoadOptions, Model, OpenOptions, Sampling, SessionOptions, State, Synthetic};
use ruminate_shaders::Dtype;

use crate::compare::Figure;
use crate::ruminate_kernels::dtype;

/// Tokens in the cache before decoding is timed.
const BEFORE: u32 = 16;

/// Prints a figure for every word of `work` after the first two. The words are the shape, the steps, then `decode/TOKENS` and `prefill/TOKENS`.
pub fn measure(name: &str, work: &[String]) -> Result<()> {
    let [shape, steps, work @ ..] = work else { anyhow::bail!("expected a shape, a number of steps, and work") };
    let steps: u32 = steps.parse()?;
    let dtype = dtype(name)?;
    let device = Device::open(&OpenOptions::default())?;
    let model = Synthetic::parse(shape)?;
    let model = Model::open(&model.source(), &device, LoadOptions { dtype: Some(dtype), ..LoadOptions::default() })?;
    for word in work {
        let (kind, tokens) = word.split_once('/').context("expected decode/TOKENS or prefill/TOKENS")?;
        let tokens: u32 = tokens.parse()?;
        let figure = if kind == "decode" { decode(&model, steps, tokens)? } else { prefill(&model, steps, tokens)? };
        Figure { work: word.clone(), ..figure }.print();
    }
    Ok(())
}

fn session_options(steps: u32) -> SessionOptions {
    SessionOptions { context: Some(1024), steps: Some(steps), ..SessionOptions::default() }
}

/// Time per token, and the bytes of weights that a token reads.
fn decode(model: &Model, steps: u32, tokens: u32) -> Result<Figure> {
    let mut session = model.session(session_options(steps))?;
    let prompt: Vec<u32> = (1..=BEFORE).collect();
    let mut seconds = 0.0;
    // The first run compiles.
    for tokens in [2, tokens] {
        session.rewind(0)?;
        let options = GenerateOptions {
            steps: Some(steps),
            max_tokens: Some(tokens + 1),
            sampling: Sampling::GREEDY,
            end_tokens: Some(Vec::new()),
            ..GenerateOptions::default()
        };
        let mut generation = session.generate(&prompt[..], &options)?;
        generation.by_ref().try_for_each(|piece| piece.map(drop))?;
        seconds = 1.0 / generation.statistics().decode_rate();
    }
    let config = model.spec();
    let bytes = config.weight_bytes_per_token(model.dtype(), steps);
    let flops = 2.0 * (config.weight_bytes_per_token(Dtype::F32, steps) / 4) as f64;
    Ok(Figure { work: String::new(), seconds, bytes, flops, error: None })
}

/// Time of a prompt up to the logits of its last token. The head is not counted among the operations: it processes one row.
fn prefill(model: &Model, steps: u32, tokens: u32) -> Result<Figure> {
    let mut session = model.session(session_options(steps))?;
    let prompt: Vec<u32> = (1..=tokens).collect();
    let mut seconds = 0.0;
    for _ in 0..2 {
        session.rewind(0)?;
        let start = Instant::now();
        session.forward(&prompt, steps, State::Seeded, false)?;
        seconds = start.elapsed().as_secs_f64();
    }
    let config = model.spec();
    let head = u64::from(config.padded_vocab) * u64::from(config.width);
    let weights = config.weight_bytes_per_token(Dtype::F32, steps) / 4 - head;
    let flops = 2.0 * weights as f64 * f64::from(tokens);
    Ok(Figure { work: String::new(), seconds, bytes: 0, flops, error: None })
}
