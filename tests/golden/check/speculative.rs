//! Speculative decoding and diffusion forcing: generated tokens, and which of given drafts are accepted.
//!
//! The authors' code keeps no token after drafts that are all accepted ("no bonus token") and may generate more tokens than requested ("overshoot").
//! Therefore only the tokens are compared, up to the requested number, and only at thresholds that accept nothing but the chosen token. Lower thresholds
//! are compared on given drafts.

use anyhow::{Context, Result};
use ruminate::trace::most_likely;
use ruminate::{
    Continuous, Diffusion, FreezeRule, Freezing, GenerateOptions, Given, KvSharing, NoiseMix, Pipeline, Speculate,
    State,
};

use super::Golden;
use super::decode::greedy;
use super::fixture::numbers;

impl Golden {
    /// Diffusion forcing as in the authors' code: tokens, passes over the core, and the steps of every position. The overshoot is compared too. This engine's
    /// own rules are tested in `tests/policies/diffusion.rs`.
    pub(super) fn diffusion(&mut self) -> Result<()> {
        let section = self.fixture.value("/diffusion").clone();
        let (prompt, draws) = (numbers(&section["prompt"]), numbers(&section["randint_draws"]));
        for (index, run) in section["runs"].as_array().into_iter().flatten().enumerate() {
            let (name, expected) = (format!("diffusion/{index}"), numbers(&run["tokens"]));
            let steps = run["options"]["num_steps"].as_u64().unwrap_or(1) as u32;
            let mut diffusion = as_the_authors(&run["options"])?;
            let mut states = Vec::new();
            if run["init"].as_str() == Some("bank") {
                states = self.fixture.tensor("diffusion/bank")?;
            }
            diffusion.given = Some(Given { states, tokens: draws.clone() });
            let continuous = run["options"]["continuous_compute"].as_bool().unwrap_or(false).then_some(Continuous::Raw);
            let options = GenerateOptions { continuous, ..greedy(steps, expected.len()) };
            let lookup = run["options"]["cache_lookup_strategy"].as_str().unwrap_or("latest-m4-compress-s4");
            let kv_sharing = KvSharing::parse(lookup, self.model.spec().layers.core)?;

            let theirs = GenerateOptions { diffusion: Some(diffusion.clone()), ..options.clone() };
            let mut session = self.session_of(kv_sharing, 0.0)?;
            let mut generation = session.generate(prompt.as_slice(), &theirs)?;
            let pieces = generation.by_ref().collect::<Result<Vec<_>, _>>()?;
            let passes = generation.statistics().core_passes as u32;
            drop(generation);
            let tokens: Vec<u32> = pieces.iter().map(|piece| piece.token).collect();
            self.compare_equal(&format!("{name}/tokens"), &tokens, &expected, None);
            // The prompt takes one more round, which is computed at once.
            let scores = &run["scores"];
            let rounds = scores["diffusion_steps"].as_u64().unwrap_or(0) as u32;
            self.compare_equal(&format!("{name}/passes"), &[passes], &[rounds * diffusion.inner_steps], None);
            let taken: Vec<u32> = pieces.iter().map(|piece| piece.steps).collect();
            let counted = numbers(&scores["recurrence_per_position"]);
            self.compare_equal(&format!("{name}/steps"), &taken, &counted[prompt.len() - 1..counted.len() - 1], None);
        }
        Ok(())
    }

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
                let found = self.generate(KvSharing::default(), 0.0, &prompt, &options)?;
                self.compare_equal(&format!("speculative/{index}/{way}"), &found, &expected, excused);
            }
        }
        for (index, given) in section["given"].as_array().into_iter().flatten().enumerate() {
            let name = format!("speculative/given/{index}");
            let (steps, drafts) = (number(&given["num_steps"]), numbers(&given["drafts"]));
            let (n, vocab) = (self.model.spec().width as usize, self.model.spec().padded_vocab as usize);
            let mut session = self.session_of(KvSharing::default(), 0.0)?;
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

/// Options of a run, with the authors' defaults.
fn as_the_authors(options: &serde_json::Value) -> Result<Diffusion> {
    let whole = |name: &str, usual: u32| options[name].as_u64().map_or(usual, |value| value as u32);
    let real = |name: &str, usual: f32| options[name].as_f64().map_or(usual, |value| value as f32);
    let flag = |name: &str, usual: bool| options[name].as_bool().unwrap_or(usual);
    let rule = options["freeze_strategy"].as_str().unwrap_or("latent-diff");
    let rule = FreezeRule::ALL.into_iter().find(|it| it.name() == rule).context("unknown freeze rule")?;
    Ok(Diffusion {
        headway: whole("headway", 1),
        inner_steps: whole("inner_recurrence", 4),
        wavefront: whole("max_wavefront", 128),
        ema: real("ema_embeds", 0.1),
        noise_mix: NoiseMix {
            share: real("state_noise_mixing", 0.5),
            dampened: flag("dampened_state_mixer", true),
            sqrt: flag("sqrt_mixer", false),
        },
        freeze: Freezing { threshold: real("exit_t", 0.03), authors: true, ..Freezing::new(rule) },
        full_prefill: flag("full_prefill", true),
        ..Diffusion::default()
    })
}
