//! Cost of structured output: the time to compile a schema, the host's time for each token's mask along a JSON text, and milliseconds per token of a small
//! model with and without a constraint, alternately; for vocabularies as large as Huginn's and Nanbeige's.
//!
//! ```console
//! $ cargo bench -p ruminate-benches --bench constraint
//! ```

use std::fmt::Write;
use std::time::{Duration, Instant};

use ruminate::{
    Constraint, Device, GenerateOptions, LoadOptions, Model, Sampling, SessionOptions, Specials, Synthetic,
};
use ruminate_benches::{announce, device};
use serde_json::json;

/// Vocabulary sizes of Huginn and Nanbeige.
const VOCABULARIES: [u32; 2] = [65_536, 166_144];
/// Tokens per generation.
const TOKENS: u32 = 64;
/// Generations of each kind, alternately.
const ROUNDS: u64 = 9;

fn schema() -> serde_json::Value {
    json!({
        "type": "object",
        "properties": {"people": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer"},
                "likes": {"type": "array", "items": {"enum": ["tea", "chess", "rain", "long walks"]}},
            },
            "required": ["name", "age", "likes"],
            "additionalProperties": false,
        }}},
        "required": ["people"],
        "additionalProperties": false,
    })
}

/// A value that conforms to the schema.
fn value() -> String {
    let mut text = String::from("{\"people\": [");
    for index in 0..12 {
        let _ = write!(
            text,
            "{}{{\"name\": \"Person number {index} of many\", \"age\": {}, \"likes\": [\"tea\", \"rain\"]}}",
            if index == 0 { "" } else { ", " },
            20 + index
        );
    }
    text + "]}"
}

/// Time that `percent` percent of the times do not exceed, in microseconds.
fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6
}

/// Milliseconds per token after the first.
fn pace(model: &Model, constraint: Option<&Constraint>, seed: u64) -> Result<f64, ruminate::Error> {
    let mut session = model.session(SessionOptions { seed, context: Some(256), ..SessionOptions::default() })?;
    let options = GenerateOptions {
        steps: Some(1),
        max_tokens: Some(TOKENS),
        sampling: Sampling { temperature: 1.0, ..Sampling::GREEDY },
        end_tokens: Some(Vec::new()),
        constraint: constraint.cloned(),
        ..GenerateOptions::default()
    };
    let mut generation = session.generate(&[5, 6, 7], &options)?;
    while generation.next().transpose()?.is_some() {}
    let statistics = generation.statistics();
    Ok(statistics.decode_time.as_secs_f64() * 1e3 / f64::from(statistics.tokens.saturating_sub(1).max(1)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "these are the figures")]
fn measure(device: &Device, vocab: u32) -> Result<(), Box<dyn std::error::Error>> {
    let shape = format!("n_embd=64,heads=2,hidden=96,vocab={vocab},layers=1/1/1,block_size=256,seed=3");
    let model = Model::open(&Synthetic::parse(&shape)?.source(), device, LoadOptions::default())?;
    let tokenizer = model.tokenizer();
    let start = Instant::now();
    Constraint::regex(tokenizer, "a")?;
    let tree = start.elapsed();
    let start = Instant::now();
    let constraint = Constraint::json_schema(tokenizer, &schema())?;
    let compiled = start.elapsed();
    let tokens = tokenizer.encode(&value(), Specials::Continue)?;
    let mut times = ruminate::bench::masks(&constraint, tokenizer, &tokens)?;
    let first = times[0].as_secs_f64() * 1e6;
    let [half, most] = [50, 99].map(|percent| percentile(&mut times, percent));
    println!(
        "{vocab} tokens: tree {:.0} ms once, schema {:.1} ms; mask of a token: median {half:.0} µs, 99 % below {most:.0} µs, the first {first:.0} µs",
        tree.as_secs_f64() * 1e3,
        compiled.as_secs_f64() * 1e3,
    );
    // A long list of strings, so that no constrained text is complete early.
    let endless = Constraint::regex(tokenizer, "\\[(\"[a-z ]{3,9}\",){60,}\\]")?;
    let (mut plain, mut constrained) = (Vec::new(), Vec::new());
    for seed in 0..ROUNDS {
        plain.push(pace(&model, None, seed)?);
        constrained.push(pace(&model, Some(&endless), seed)?);
    }
    let (plain, constrained) = (median(plain), median(constrained));
    println!("{vocab} tokens: {plain:.2} ms per token without a constraint, {constrained:.2} ms with one");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = device();
    announce(&device);
    VOCABULARIES.into_iter().try_for_each(|vocab| measure(&device, vocab))
}
