//! Drafted tokens: what is said with them, and which of given drafts stand.
//!
//! The authors' code keeps no token behind drafts that all stand ("no bonus token") and may say more tokens than it was asked for ("overshoot"): only the tokens are
//! compared, up to the number that was asked for, where the threshold lets nothing but the chosen token stand. What a lower one lets stand is compared on given
//! drafts.

use anyhow::Result;
use ruminate::trace::most_likely;
use ruminate::{GenerateOptions, KvStrategy, Pipeline, Speculate, State};

use super::Golden;
use super::decode::greedy;
use super::fixture::numbers;

impl Golden {
    pub(super) fn speculative(&mut self) -> Result<()> {
        let section = self.fixture.value("/speculative").clone();
        let prompt = numbers(&section["prompt"]);
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or(1) as u32;
        for (index, run) in section["runs"].as_array().into_iter().flatten().enumerate() {
            let threshold = run["verification_threshold"].as_f64().unwrap_or(1.0) as f32;
            if threshold < 1.0 {
                continue;
            }
            let wanted = number(&run["max_new_tokens"]) as usize;
            let expected: Vec<u32> = numbers(&run["tokens"]).into_iter().take(wanted).collect();
            let excused = run["fragile"].as_bool().unwrap_or(false).then_some("marked fragile: a near-tie decides");
            let plain = greedy(number(&run["num_steps"]), expected.len());
            let (draft_steps, draft_len) = (Some(number(&run["draft_steps"])), number(&run["lookahead"]));
            let speculate = Some(Speculate { draft_steps, draft_len, threshold });
            let pipeline = Some(Pipeline { every: draft_steps });
            let ways = [
                ("drafted", GenerateOptions { speculate, ..plain.clone() }),
                ("pipelined", GenerateOptions { pipeline, ..plain }),
            ];
            for (way, options) in ways {
                let found = self.generate(KvStrategy::default(), 0.0, &prompt, &options)?;
                self.compare_equal(&format!("speculative/{index}/{way}"), &found, &expected, excused);
            }
        }
        for (index, given) in section["given"].as_array().into_iter().flatten().enumerate() {
            let name = format!("speculative/given/{index}");
            let (steps, drafts) = (number(&given["num_steps"]), numbers(&given["drafts"]));
            let (n, vocab) = (self.model.config().n_embd as usize, self.model.config().padded_vocab_size as usize);
            let mut session = self.session_of(KvStrategy::default(), 0.0)?;
            session.forward(&prompt, steps, State::Given(&vec![0.0; prompt.len() * n]), false)?;
            let tokens = [&[number(&given["last_token"])], drafts.as_slice()].concat();
            let logits = session.forward(&tokens, steps, State::Given(&vec![0.0; tokens.len() * n]), true)?;
            let rows = || logits.chunks(vocab).zip(&drafts);
            let predicted: Vec<u32> = rows().flat_map(|(row, _)| most_likely(row, 1)).collect();
            let ratios: Vec<f32> = rows()
                .zip(&predicted)
                .map(|((row, &draft), &best)| (row[draft as usize] - row[best as usize]).exp())
                .collect();
            self.compare_equal(&format!("{name}/predicted"), &predicted, &numbers(&given["predicted"]), None);
            let expected = given["prob_ratio"].as_array().into_iter().flatten();
            let expected: Vec<f32> = expected.filter_map(serde_json::Value::as_f64).map(|x| x as f32).collect();
            self.compare_with(&format!("{name}/ratios"), &ratios, &expected, 1e-4);
            for (threshold, outcome) in given["accepted"].as_object().into_iter().flatten() {
                let least: f32 = threshold.parse()?;
                let accepted = ratios.iter().take_while(|&&ratio| ratio >= least).count() as u32;
                self.compare_equal(&format!("{name}/{threshold}"), &[accepted], &[number(&outcome["accepted"])], None);
            }
        }
        Ok(())
    }
}
