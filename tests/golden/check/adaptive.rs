//! Early exit: each criterion with its values at every check, per-token exits within a prompt, and continuous compute.
//!
//! If the authors' criterion with "every n" does not fire and no check falls on the last step, their logits are those of the last check. Such a token is
//! recognized from the numbers of its run (see [`first_stale`]). Its logits, and anything that depends on them, are not compared, because this engine
//! reads out the last step.

use anyhow::{Context, Result};
use ruminate::trace::most_likely;
use ruminate::{Continuous, Criterion, Exit, GenerateOptions, KvSharing, PrefillExit, State};
use serde_json::Value;

use super::Golden;
use super::decode::greedy;
use super::fixture::numbers;

/// Reason to excuse a run that a near-tie may decide either way.
const NEAR: &str = "a value is closer to the threshold than rounding errors";

impl Golden {
    pub(super) fn adaptive(&mut self) -> Result<()> {
        let runs = self.fixture.value("/adaptive/runs").clone();
        let prompt = self.fixture.numbers("/adaptive/prompt");
        // A trimmed fixture has null in place of a removed run.
        let runs = runs.as_array().into_iter().flatten().enumerate().filter(|(_, run)| !run.is_null());
        for (index, run) in runs {
            let name = format!("adaptive/{index}");
            self.adaptive_run(&name, run, &prompt).with_context(|| format!("{name}: {run}"))?;
        }
        Ok(())
    }

    fn adaptive_run(&mut self, name: &str, run: &Value, prompt: &[u32]) -> Result<()> {
        let n = self.model.spec().width as usize;
        let steps = run["max_steps"].as_u64().unwrap_or(1) as u32;
        let count = run["new_tokens"].as_u64().unwrap_or(1) as usize;
        let exit = exit(run)?;
        let continuous = run["continuous_compute"].as_bool() == Some(true);
        let states = self.fixture.tensor("adaptive/prompt_states")?;
        let later = self.fixture.tensor("adaptive/decode_states")?;
        let mut session = self.session_of(self.kv_sharing(run)?, 1.0)?;
        let expected = numbers(&run["tokens"]);
        let (mut tokens, mut taken, mut values, mut logits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for k in 0..count {
            let state = match k.checked_sub(1) {
                None => State::Given(&states),
                Some(_) if continuous => State::Carried,
                Some(before) => State::Given(&later[before * n..][..n]),
            };
            // The expected tokens are fed, because the text would diverge after a difference.
            let input = if k == 0 { prompt } else { &expected[k - 1..k] };
            let found = match &exit {
                Some(exit) => session.forward_until_exit(input, steps, exit, state, false)?,
                None => ruminate::Forward {
                    logits: session.forward(input, steps, state, false)?,
                    ..ruminate::Forward::default()
                },
            };
            tokens.extend(most_likely(&found.logits, 1));
            taken.push(found.steps.last().copied().unwrap_or(steps));
            // Rows that exit together are judged by the mean of their values.
            values.push(mean(&found.values));
            logits.extend(found.logits);
        }
        let gap = run["min_gap_to_threshold"].as_f64().unwrap_or(f64::INFINITY);
        let noise = run["value_noise_f32"].as_f64().unwrap_or(0.0);
        let near = (gap < 4.0 * noise || run["fragile"].as_bool() == Some(true)).then_some(NEAR);
        let expected_steps = numbers(&run["steps"]);
        let stale = exit.as_ref().and_then(|exit| first_stale(run, exit, steps));
        // After a stale read-out, later tokens see stale keys in the coda, which changes later read-outs, but no state of the core.
        let reads_out = exit.as_ref().is_some_and(|exit| exit.criterion.reads_out());
        let comparable = stale.filter(|_| reads_out).map_or(count, |stale| stale + 1);
        let never_fired = expected_steps.iter().all(|&taken| taken == steps);
        let with_steps = if never_fired { count } else { comparable };
        self.compare_equal(&format!("{name}/steps"), &taken[..with_steps], &expected_steps[..with_steps], near);
        let with_tokens = stale.unwrap_or(count);
        self.compare_equal(&format!("{name}/tokens"), &tokens[..with_tokens], &expected[..with_tokens], near);
        if exit.is_some() && taken[..comparable] == expected_steps[..comparable] {
            self.compare_values(&format!("{name}/values"), &values[..comparable], run);
        }
        let tensor = format!("{name}/logits");
        if self.fixture.has(&tensor) && near.is_none() && stale.is_none() {
            self.compare(&tensor, &logits)?;
        }
        Ok(())
    }

    /// Exits of every token of a prompt by itself: in one pass for criteria on states; token by token for criteria on read-outs, because a read-out
    /// attends to those of earlier tokens.
    pub(super) fn varied(&mut self) -> Result<()> {
        let runs = self.fixture.value("/varied/runs").clone();
        let tokens = self.fixture.numbers("/varied/tokens");
        let n = self.model.spec().width as usize;
        for run in runs.as_array().into_iter().flatten() {
            let states = self.fixture.tensor("varied/states")?;
            let steps = run["max_steps"].as_u64().unwrap_or(1) as u32;
            let exit = Exit { prefill: PrefillExit::Each, ..exit(run)?.context("no criterion")? };
            let tensor = run["logits"].as_str().unwrap_or("varied").to_owned();
            let mut session = self.session_of(self.kv_sharing(run)?, 1.0)?;
            let size = if exit.criterion.reads_out() { 1 } else { tokens.len() };
            let mut found = ruminate::Forward::default();
            for (tokens, states) in tokens.chunks(size).zip(states.chunks(size * n)) {
                let part = session.forward_until_exit(tokens, steps, &exit, State::Given(states), true)?;
                found.logits.extend(part.logits);
                found.steps.extend(part.steps);
                found.values.extend(part.values);
            }
            self.compare_equal(&format!("{tensor}: steps"), &found.steps, &numbers(&run["steps"]), None);
            self.compare_values(&format!("{tensor}: values"), &found.values, run);
            if self.fixture.has(&tensor) {
                self.compare(&tensor, &found.logits)?;
            }
        }
        Ok(())
    }

    /// Continuous compute at fixed depth: each token starts from the state of the previous one.
    pub(super) fn continuous(&mut self) -> Result<()> {
        let section = self.fixture.value("/continuous").clone();
        let prompt = numbers(&section["prompt"]);
        for (name, run) in section.as_object().into_iter().flatten() {
            let Some(steps) = name.rsplit_once('r').and_then(|(_, steps)| steps.parse::<u32>().ok()) else { continue };
            let expected = numbers(&run["tokens"]);
            // The authors carry the state after the final norm here, and the raw state with adaptive exits.
            let found = if name.starts_with("zero") {
                let options = GenerateOptions { continuous: Some(Continuous::Normed), ..greedy(steps, expected.len()) };
                self.generate(KvSharing::default(), 0.0, &prompt, &options)?
            } else {
                let (n, vocab) = (self.model.spec().width as usize, self.model.spec().padded_vocab as usize);
                let mut states = self.fixture.tensor("adaptive/prompt_states")?;
                let mut session = self.session_of(KvSharing::default(), 1.0)?;
                let (mut tokens, mut logits) = (Vec::new(), Vec::new());
                let mut input = prompt.as_slice();
                for next in expected.chunks(1) {
                    session.begin(input, steps, State::Given(&states))?;
                    session.iterate(steps)?;
                    let found = session.read_out()?;
                    let last = &found.logits[found.logits.len() - vocab..];
                    tokens.extend(most_likely(last, 1));
                    logits.extend_from_slice(last);
                    states = found.latents[found.latents.len() - n..].to_vec();
                    input = next;
                }
                let tensor = format!("continuous/logits_r{steps}");
                if self.fixture.has(&tensor) {
                    self.compare(&tensor, &logits)?;
                }
                tokens
            };
            self.compare_equal(&format!("continuous/{name}"), &found, &expected, None);
        }
        Ok(())
    }

    fn kv_sharing(&self, run: &Value) -> Result<KvSharing> {
        let name = run["lookup"].as_str().unwrap_or("full");
        Ok(KvSharing::parse(name, self.model.spec().layers.core)?)
    }

    /// Compares the values of every check of a run's first tokens: to 1e-4, relative for values above 1.
    fn compare_values(&mut self, name: &str, found: &[Vec<f32>], run: &Value) {
        let lists = run["values"].as_array().into_iter().flatten().take(found.len());
        let expected: Vec<f32> = lists.flat_map(floats).collect();
        let scaled = |values: Vec<f32>| -> Vec<f32> {
            values.iter().zip(&expected).map(|(value, expected)| value / expected.abs().max(1.0)).collect()
        };
        let found = found.concat();
        if found.len() == expected.len() {
            self.compare_with(name, &scaled(found), &scaled(expected.clone()), 1e-4);
        } else {
            self.compare_equal(name, &[found.len()], &[expected.len()], None);
        }
    }
}

/// First token whose logits in the authors' code are those of an earlier check: one that took all steps although the last check was before the last step.
/// Checks are at step `min_steps + 1` and every `every` steps after it.
fn first_stale(run: &Value, exit: &Exit, max_steps: u32) -> Option<usize> {
    let checks = run["values"].as_array()?.iter().map(|values| values.as_array().map_or(0, Vec::len) as u32);
    let is_stale = |(taken, checks): (u32, u32)| {
        taken == max_steps && checks > 0 && exit.min_steps + 1 + exit.every * (checks - 1) < max_steps
    };
    numbers(&run["steps"]).into_iter().zip(checks).position(is_stale)
}

fn exit(run: &Value) -> Result<Option<Exit>> {
    let name = run["criterion"].as_str().unwrap_or("none");
    if name == "none" {
        return Ok(None);
    }
    let criterion = Criterion::ALL.into_iter().find(|it| it.name() == name).context("unknown criterion")?;
    let usual = Exit::new(criterion);
    let number = |key: &str, usual: u32| run[key].as_u64().map_or(usual, |n| n as u32);
    let never = run["do_not_exit_in_prefill"].as_bool() == Some(true);
    Ok(Some(Exit {
        threshold: run["threshold"].as_f64().map_or(usual.threshold, |x| x as f32),
        min_steps: number("min_steps", 0),
        every: number("check_criterion_every_n_steps", 1),
        prefill: if never { PrefillExit::Never } else { PrefillExit::Together },
        ..usual
    }))
}

fn floats(list: &Value) -> Vec<f32> {
    list.as_array().into_iter().flatten().filter_map(Value::as_f64).map(|x| x as f32).collect()
}

/// Elementwise mean of lists of equal length.
fn mean(lists: &[Vec<f32>]) -> Vec<f32> {
    let length = lists.first().map_or(0, Vec::len);
    (0..length).map(|i| lists.iter().map(|list| list[i]).sum::<f32>() / lists.len() as f32).collect()
}
