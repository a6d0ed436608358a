//! Learned exit gate, for tokens of a prompt and generated tokens: with the authors' semantics (all loops are computed, then a state is chosen) and
//! with those of an engine that stops, in which later loops see the keys and values of a token's last loop.

use anyhow::Result;
use ruminate::trace::most_likely;
use ruminate::{Criterion, Exit, GenerateOptions, KvSharing, PrefillExit, State};
use serde_json::Value;

use super::Golden;
use super::decode::greedy;
use super::fixture::numbers;

/// Exit rule of the gate with a threshold, in either semantics.
fn gate(threshold: &Value, posthoc: bool) -> Exit {
    let prefill = if posthoc { PrefillExit::Posthoc } else { PrefillExit::Each };
    let threshold = threshold.as_f64().unwrap_or(1.0) as f32;
    Exit { threshold, prefill, posthoc, ..Exit::new(Criterion::Gate) }
}

impl Golden {
    pub(super) fn gated(&mut self) -> Result<()> {
        let section = self.fixture.value("/exit").clone();
        let tokens = numbers(&section["tokens"]);
        let most = self.model.spec().steps.default;
        for run in section["runs"].as_array().into_iter().flatten() {
            for (posthoc, wanted) in [(true, run), (false, &run["skip"])] {
                let exit = gate(&run["threshold"], posthoc);
                let name = format!("exit/{}, {}", run["threshold"], if posthoc { "post hoc" } else { "skipping" });
                let excused = fragile(wanted);
                let mut session = self.session_of(KvSharing::default(), 1.0)?;
                let found = session.forward_until_exit(&tokens, most, &exit, State::Seeded, true)?;
                self.compare_equal(&format!("{name}: steps"), &found.steps, &numbers(&wanted["steps"]), excused);
                if let Some(tensor) = wanted["logits"].as_str().filter(|tensor| self.fixture.has(tensor)) {
                    self.compare(tensor, &found.logits)?;
                }
                if posthoc && let Some(cdf) = self.fixture.optional("exit/cdf")? {
                    // The last probability is the remainder, which is never compared with the threshold.
                    let loops = cdf.len() / tokens.len();
                    let of = |token: usize| (0..loops - 1).map(move |step| (step, token));
                    let expected: Vec<f32> =
                        (0..tokens.len()).flat_map(of).map(|(step, token)| cdf[step * tokens.len() + token]).collect();
                    let values = found.values.iter().flat_map(|values| values[..loops - 1].to_vec());
                    self.compare_with(&format!("{name}: values"), &values.collect::<Vec<_>>(), &expected, 1e-5);
                }
            }
        }
        for run in section["greedy"].as_array().into_iter().flatten() {
            self.gated_greedy(run, most)?;
        }
        Ok(())
    }

    fn gated_greedy(&mut self, run: &Value, most: u32) -> Result<()> {
        let name = format!("exit_greedy/{}", run["name"].as_str().unwrap_or("?"));
        let (prompt, expected) = (numbers(&run["prompt"]), numbers(&run["tokens"]));
        let posthoc = run["semantics"] == "posthoc";
        let prefill = if run["prefill"] == "full" { PrefillExit::Posthoc } else { PrefillExit::Each };
        let exit = Exit { prefill, ..gate(&run["threshold"], posthoc) };
        let options = GenerateOptions { exit: Some(exit), ..greedy(most, expected.len()) };
        let mut session = self.session_of(KvSharing::default(), 1.0)?;
        let pieces: Vec<_> = session.generate(&prompt, &options)?.collect::<Result<_, _>>()?;
        let tokens: Vec<u32> = pieces.iter().map(|piece| piece.token).collect();
        let steps: Vec<u32> = pieces.iter().map(|piece| piece.steps).collect();
        self.compare_equal(&format!("{name}: tokens"), &tokens, &expected, fragile(run));
        self.compare_equal(&format!("{name}: steps"), &steps, &numbers(&run["steps"]), fragile(run));

        let Some(tensor) = run["logits"].as_str().filter(|tensor| self.fixture.has(tensor)) else { return Ok(()) };
        let mut session = self.session_of(KvSharing::default(), 1.0)?;
        let (mut logits, mut input) = (Vec::new(), prompt);
        for _ in &expected {
            let found = session.forward_until_exit(&input, most, &exit, State::Seeded, false)?;
            input = most_likely(&found.logits, 1);
            logits.extend(found.logits);
        }
        self.compare(tensor, &logits)
    }
}

/// Reason to excuse a run that a near-tie may decide either way.
fn fragile(run: &Value) -> Option<&'static str> {
    run["fragile"].as_bool().unwrap_or(false).then_some("marked fragile: a near-tie decides")
}
