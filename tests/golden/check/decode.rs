//! Prefill followed by decoding, at fixed and varying depth and in chunks; and greedy generation from zero states.

use anyhow::Result;
use ruminate::{GenerateOptions, KvSharing, Sampling};
use serde_json::Value;

use super::Golden;
use super::fixture::numbers;

impl Golden {
    pub(super) fn decode(&mut self) -> Result<()> {
        let tokens = self.fixture.numbers("/decode/tokens");
        let prefill = self.fixture.value("/decode/prefill").as_u64().unwrap_or(0) as usize;
        let states = self.fixture.optional("decode/input_states")?;
        let ones = tokens.len() - prefill;
        for (section, prefix) in [("fixed", "decode"), ("fixed_low", "decode_low"), ("variable", "decode_var")] {
            let value = self.fixture.value(&format!("/decode/{section}")).clone();
            let steps = match &value["num_steps"] {
                Value::Array(_) => numbers(&value["num_steps"]),
                fixed => vec![fixed.as_u64().unwrap_or(1) as u32; ones + 1],
            };
            let sizes: Vec<usize> = [prefill].into_iter().chain(vec![1; ones]).collect();
            for (strategy, about) in value["strategies"].as_object().into_iter().flatten() {
                // "compress-r" is not supported: it mixes up layers. Runs that fail in the authors' code work here, but have no expected output.
                let (Some(strategy_of), None) = (self.offered(strategy), about.get("error")) else { continue };
                let rows = self.chunks(strategy_of, &tokens, states.as_deref(), &sizes, &steps, false)?;
                let same_as = about["identical_to"].as_str().unwrap_or(strategy);
                let name = format!("{prefix}/{same_as}/logits");
                let expected = self.fixture.tensor(&name)?;
                let bound = self.fixture.bound(&name, &expected);
                self.compare_with(&format!("{prefix}/{strategy}/logits"), &rows, &expected, bound);
            }
        }
        if !self.fixture.has("decode_chunk/full/logits") {
            return Ok(());
        }
        let value = self.fixture.value("/decode/chunked").clone();
        let sizes: Vec<usize> = numbers(&value["chunks"]).into_iter().map(|size| size as usize).collect();
        let steps = vec![value["num_steps"].as_u64().unwrap_or(1) as u32; sizes.len()];
        for strategy in ["full", "latest-m4-compress-s4"] {
            let name = format!("decode_chunk/{strategy}/logits");
            if let Some(found) = self.offered(strategy).filter(|_| self.fixture.has(&name)) {
                let rows = self.chunks(found, &tokens, states.as_deref(), &sizes, &steps, true)?;
                self.compare(&name, &rows)?;
            }
        }
        Ok(())
    }

    /// Parses a strategy of the authors, if it is supported. Their "full" silently skips missing entries of a position; this engine offers that under the
    /// same name, but not as the default.
    fn offered(&self, strategy: &str) -> Option<KvSharing> {
        KvSharing::parse(strategy, self.model.spec().layers.core).ok()
    }

    /// Feeds tokens in chunks, each at its own depth. Returns the logits of the last row of each chunk, or of all rows.
    fn chunks(
        &self,
        kv_sharing: KvSharing,
        tokens: &[u32],
        states: Option<&[f32]>,
        sizes: &[usize],
        steps: &[u32],
        all: bool,
    ) -> Result<Vec<f32>> {
        let n = self.model.spec().width as usize;
        let mut session = self.session_of(kv_sharing, 1.0)?;
        let mut logits = Vec::new();
        let mut start = 0;
        for (&size, &steps) in sizes.iter().zip(steps) {
            let end = start + size;
            let given = super::state_of(states.map(|states| &states[start * n..end * n]));
            logits.extend(session.forward(&tokens[start..end], steps, given, all)?);
            start = end;
        }
        Ok(logits)
    }

    pub(super) fn greedy_zero(&mut self) -> Result<()> {
        let runs = self.fixture.value("/greedy_zero/runs").clone();
        for run in runs.as_array().into_iter().flatten() {
            let Some(kv_sharing) = self.offered(run["lookup"].as_str().unwrap_or("full")) else { continue };
            let name = run["name"].as_str().unwrap_or("?").to_owned();
            let (prompt, expected) = (numbers(&run["prompt"]), numbers(&run["tokens"]));
            let scale = run["init_scale"].as_f64().unwrap_or(0.0) as f32;
            let steps = run["num_steps"].as_u64().unwrap_or(1) as u32;
            let excused = run["fragile"].as_bool().unwrap_or(false).then_some("marked fragile: a near-tie decides");
            let options = greedy(steps, expected.len());
            let found = self.generate(kv_sharing, scale, &prompt, &options)?;
            self.compare_equal(&format!("greedy_zero/{name}"), &found, &expected, excused);

            let eos = self.fixture.value("/greedy_zero/eos_run").clone();
            if eos["of"].as_str() == Some(&name) {
                let ends = numbers(&eos["eos_token_id"]);
                let options = GenerateOptions { end_tokens: Some(ends), ..options };
                let found = self.generate(kv_sharing, scale, &prompt, &options)?;
                self.compare_equal("greedy_zero/eos_run", &found, &numbers(&eos["tokens"]), excused);
            }
        }
        Ok(())
    }

    pub(super) fn generate(
        &self,
        kv_sharing: KvSharing,
        init_scale: f32,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Vec<u32>> {
        let mut session = self.session_of(kv_sharing, init_scale)?;
        let pieces = session.generate(prompt, options)?;
        Ok(pieces.map(|piece| piece.map(|piece| piece.token)).collect::<Result<_, _>>()?)
    }
}

/// Options for `count` greedy tokens at a depth, without end tokens.
pub(super) fn greedy(steps: u32, count: usize) -> GenerateOptions {
    GenerateOptions {
        steps: Some(steps),
        max_tokens: Some(count as u32),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    }
}
