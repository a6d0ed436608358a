//! Filtered distributions: the kernel's probabilities against the distributions that the authors' code samples from.
//!
//! One difference is intended: the authors' top-p drops the token that crosses the threshold, while this engine keeps it, like Hugging Face. With top-p,
//! the kept tokens must therefore be the authors', optionally with the next most likely one, and the renormalized distribution over the authors' tokens
//! must be equal.

use anyhow::Result;
use ruminate::Sampling;
use ruminate_engine::{Buffer, Device, Graph};
use ruminate_shaders::sample::penalize::{Penalties, penalize};
use ruminate_shaders::sample::{Sampler, sample};
use ruminate_shaders::{Row, Sequence, stride};
use serde_json::Value;

use super::Golden;

impl Golden {
    pub(super) fn sampling(&mut self) -> Result<()> {
        if self.fixture.value("/sampling").is_null() {
            return Ok(());
        }
        let logits = self.fixture.tensor("sampling/logits")?;
        let past = self.fixture.numbers("/sampling/input_ids");
        let vocab = self.model.spec().padded_vocab as usize;
        let runs = self.fixture.value("/sampling/runs").clone();
        for run in runs.as_array().into_iter().flatten() {
            let index = run["index"].as_u64().unwrap_or(0);
            let sampling = settings(&run["settings"]);
            let (probs, _) = draw(self.model.device(), &logits, vocab, &past, &sampling)?;
            let name = format!("sampling/{index}/probs");
            if sampling.top_p < 1.0 {
                self.compare_nucleus(&name, &probs, vocab)?;
            } else {
                self.compare(&name, &probs)?;
            }
            let greedy = Sampling { temperature: 0.0, ..sampling };
            let (_, tokens) = draw(self.model.device(), &logits, vocab, &past, &greedy)?;
            let expected = super::fixture::numbers(&run["greedy"]);
            self.compare_equal(&format!("sampling/{index}/greedy"), &tokens, &expected, None);
        }
        Ok(())
    }

    fn compare_nucleus(&mut self, name: &str, found: &[f32], vocab: usize) -> Result<()> {
        let expected = self.fixture.tensor(name)?;
        let bound = self.fixture.bound(name, &expected);
        for (row, (found, expected)) in found.chunks(vocab).zip(expected.chunks(vocab)).enumerate() {
            let sorted = |values: &[f32]| {
                let mut values: Vec<f32> = values.iter().copied().filter(|&v| v > 0.0).collect();
                values.sort_by(|a, b| b.total_cmp(a));
                values
            };
            let (ours, theirs) = (sorted(found), sorted(expected));
            let extra = ours.len().wrapping_sub(theirs.len());
            let shared = &ours[..theirs.len().min(ours.len())];
            let mass: f32 = shared.iter().sum();
            let scaled: Vec<f32> = shared.iter().map(|v| v / mass).collect();
            let label = format!("{name}, row {row}, crossing token kept");
            self.compare_with(&label, &scaled, &theirs, bound);
            self.compare_equal(&format!("{label}: at most one more token"), &[extra <= 1], &[true], None);
        }
        Ok(())
    }
}

fn settings(value: &Value) -> Sampling {
    let number = |name: &str| value[name].as_f64().map(|v| v as f32).filter(|&v| v != 0.0);
    Sampling {
        temperature: number("temperature").unwrap_or(1.0),
        top_k: value["top_k"].as_u64().unwrap_or(0) as u32,
        top_p: number("top_p").unwrap_or(1.0),
        min_p: number("min_p").unwrap_or(0.0),
        repeat_penalty: number("repetition_penalty").unwrap_or(1.0),
        ..Sampling::GREEDY
    }
}

/// Probabilities and chosen tokens for rows of logits, from the kernel.
fn draw(
    device: &Device,
    logits: &[f32],
    vocab: usize,
    past: &[u32],
    sampling: &Sampling,
) -> Result<(Vec<f32>, Vec<u32>)> {
    let rows = (logits.len() / vocab) as u32;
    let (context, padded) = (past.len() as u32, stride(vocab as u32) as usize);
    let Sampling { temperature, top_p, min_p, top_k, repeat_penalty, .. } = *sampling;
    let sampler = Sampler { temperature, top_p, min_p, top_k };
    let penalties = Penalties { repeat_penalty, ..Penalties::NONE };
    let picked = vec![Row::new(0, context - 1, 0); rows as usize];
    let mut padded_logits = vec![0.0_f32; rows as usize * padded];
    for (to, from) in padded_logits.chunks_mut(padded).zip(logits.chunks(vocab)) {
        to[..vocab].copy_from_slice(from);
    }
    let seed = Sequence { seed: [1, 2], state_seed: [0; 2], state_std: 0.0, steps: 0, reserved: [0; 2] };
    let edit = penalize(rows, vocab as u32, 1, context);
    let draw = sample(&device.caps(), rows, vocab as u32, 1);
    let filled = |bytes: &[u8], size: u64| -> Result<Buffer> {
        let buffer = device.buffer("sampling", size)?;
        device.write(&buffer, 0, bytes)?;
        Ok(buffer)
    };
    let mut graph = Graph::new("sampling");
    let inputs: [&[u8]; 8] = [
        bytemuck::cast_slice(&picked),
        bytemuck::bytes_of(&penalties),
        bytemuck::cast_slice(past),
        &[],
        &[],
        bytemuck::cast_slice(&padded_logits),
        &[],
        &[],
    ];
    let edits: Vec<Buffer> =
        inputs.iter().zip(&edit.sizes).map(|(bytes, &size)| filled(bytes, size)).collect::<Result<_>>()?;
    let seeds = filled(bytemuck::bytes_of(&seed), draw.sizes[1])?;
    let samplers = filled(bytemuck::bytes_of(&sampler), draw.sizes[2])?;
    let chosen = filled(&[], draw.sizes[4])?;
    let tensors: Vec<_> = edits.iter().map(|buffer| graph.import(buffer)).collect();
    graph.launch(edit, &tensors)?;
    let [seeds, samplers] = [&seeds, &samplers].map(|buffer| graph.import(buffer));
    let tokens = graph.import(&chosen);
    graph.launch(draw, &[tensors[0], seeds, samplers, tensors[7], tokens])?;
    let plan = device.plan(graph)?;
    device.execute(&plan, &[], &[])?;
    let probs = device.read(&edits[7], 0..u64::from(rows) * padded as u64 * 4)?;
    let probs: Vec<f32> = probs.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let tokens = device.read(&chosen, 0..u64::from(rows) * 4)?;
    let tokens = tokens.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok((probs.chunks(padded).flat_map(|row| &row[..vocab]).copied().collect(), tokens))
}
