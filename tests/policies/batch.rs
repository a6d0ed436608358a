//! Batches of several sequences: each sequence generates what it generates alone, whichever sequences share its passes.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use ruminate::{
    Batch, BatchOptions, Continuous, Criterion, Event, Exit, GenerateOptions, KvShare, Lookup, Model, Piece, Pipeline,
    PrefillExit, Sampling, SequenceId, SessionOptions, Speculate, State, StepsOf, StopReason,
};
use ruminate_engine::Device;
use ruminate_shaders::Noise;
use ruminate_shaders::recur::NoiseKind;
use ruminate_tests::{cases, demo_model, near_tie, trial};

use crate::criteria;

const SAMPLED: Sampling = Sampling { temperature: 1.2, top_k: 50, top_p: 0.95, ..Sampling::GREEDY };

fn session(seed: u64) -> SessionOptions {
    SessionOptions { seed, invariant: true, context: Some(64), ..SessionOptions::default() }
}

fn batch(model: &Model, sequences: u32) -> Result<Batch> {
    Ok(model.batch(BatchOptions { sequences, session: session(0), ..BatchOptions::default() })?)
}

/// The events of a batch by sequence: pieces, end reasons and errors.
#[derive(Default)]
struct Said {
    pieces: HashMap<SequenceId, Vec<Piece>>,
    reasons: HashMap<SequenceId, StopReason>,
    errors: Vec<String>,
}

impl Said {
    /// Waits for the next event and records it; false if there is none.
    fn hear(&mut self, batch: &mut Batch) -> Result<bool> {
        let Some(event) = batch.wait()? else { return Ok(false) };
        match event {
            Event::Token { id, piece } => self.pieces.entry(id).or_default().push(piece),
            Event::Done { id, reason, statistics } => {
                ensure!(self.reasons.insert(id, reason).is_none(), "sequence {id} ended twice");
                let tokens = self.pieces.get(&id).map_or(0, Vec::len);
                let early = usize::from(reason == StopReason::Cancelled);
                ensure!(
                    (tokens..=tokens + early).contains(&(statistics.tokens as usize)),
                    "{tokens} tokens arrived, but {statistics:?}"
                );
            }
            Event::Failed { error, .. } => self.errors.push(error.to_string()),
            event => anyhow::bail!("{event:?}"),
        }
        Ok(true)
    }

    /// Records all events until the batch is idle.
    fn all(batch: &mut Batch) -> Result<Self> {
        let mut said = Self::default();
        while said.hear(batch)? {}
        Ok(said)
    }

    /// Takes the pieces of a sequence.
    fn of(&mut self, id: SequenceId) -> Vec<Piece> {
        self.pieces.remove(&id).unwrap_or_default()
    }
}

/// A request for a sequence.
#[derive(Clone, Debug)]
struct Asked {
    prompt: Vec<u32>,
    seed: u64,
    options: GenerateOptions,
}

/// A request with a random prompt, depth and length; every second seed gives a sampled one.
fn asked(seed: u64) -> Asked {
    let mut noise = Noise::new(seed);
    let options = GenerateOptions {
        steps: Some(1 + noise.below(12)),
        max_tokens: Some(1 + noise.below(8)),
        sampling: if seed.is_multiple_of(2) { Sampling::GREEDY } else { SAMPLED },
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    };
    Asked { prompt: (0..1 + noise.below(20)).map(|_| noise.below(400)).collect(), seed, options }
}

fn alone(model: &Model, asked: &Asked) -> Result<Vec<Piece>> {
    let mut session = model.session(session(asked.seed))?;
    let pieces = session.generate(asked.prompt.as_slice(), &asked.options)?;
    Ok(pieces.collect::<Result<_, _>>()?)
}

/// Adds sequences one by one, a few tokens apart, and collects the pieces of each.
fn together(batch: &mut Batch, all: &[Asked]) -> Result<Vec<(SequenceId, Vec<Piece>)>> {
    let mut said = Said::default();
    let mut ids = Vec::new();
    let mut next = all.iter();
    let mut count = 0;
    loop {
        // Two at first, then another one after every second token.
        while ids.len() < 2 + count / 2 {
            let Some(asked) = next.next() else { break };
            ids.push(batch.add(asked.prompt.as_slice(), asked.seed, &asked.options)?);
        }
        if !said.hear(batch)? && ids.len() == all.len() {
            break;
        }
        count += 1;
    }
    let missing = ids.iter().find(|id| !said.reasons.contains_key(id));
    ensure!(missing.is_none() && batch.is_idle(), "sequence {missing:?} did not end");
    Ok(ids.into_iter().map(|id| (id, said.of(id))).collect())
}

/// Compares every sequence of the batch with the same one alone, and returns the pieces of each.
fn compare(model: &Model, batch: &mut Batch, all: &[Asked]) -> Result<Vec<Vec<Piece>>> {
    let mut each = Vec::new();
    for (asked, (_, said)) in all.iter().zip(together(batch, all)?) {
        let expected = alone(model, asked)?;
        ensure!(said == expected, "{asked:?}: {said:?} instead of {expected:?}");
        each.push(said);
    }
    Ok(each)
}

#[trial(device, cpu, full)]
fn batched_sequences_generate_same_tokens_as_alone(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all: Vec<Asked> = (0..cases(device, 200, 12)).map(asked).collect();
    compare(&model, &mut batch(&model, 8)?, &all).map(drop)
}

/// Without the invariant mode, the number of rows of a pass decides which kernels compute the sums.
#[trial(device, cpu, full)]
fn differences_without_invariant_mode_are_near_ties(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let usual = |seed| SessionOptions { invariant: false, ..session(seed) };
    let mut all: Vec<Asked> = (0..cases(device, 40, 4)).map(|seed| asked(2 * seed)).collect();
    for asked in &mut all {
        asked.options.max_tokens = Some(8);
    }
    let mut batch = model.batch(BatchOptions { sequences: 8, session: usual(0), ..BatchOptions::default() })?;
    for (Asked { prompt, seed, options }, (_, said)) in all.iter().zip(together(&mut batch, &all)?) {
        let mut alone = model.session(usual(*seed))?;
        let expected: Vec<u32> =
            alone.generate(prompt.as_slice(), options)?.map(|piece| Ok(piece?.token)).collect::<Result<_>>()?;
        let found: Vec<u32> = said.iter().map(|piece| piece.token).collect();
        let steps = options.steps.context("a depth")?;
        near_tie(&mut model.session(usual(*seed))?, prompt, steps, &expected, &found)
            .with_context(|| format!("{seed}"))?;
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn penalties_and_logprobs_are_per_sequence(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut all: Vec<Asked> = (20..26).map(asked).collect();
    for (place, asked) in all.iter_mut().enumerate() {
        asked.options.max_tokens = Some(8);
        asked.options.sampling.repeat_penalty = [1.0, 1.5][place % 2];
        asked.options.logit_bias = if place % 3 == 0 { vec![(7, f32::NEG_INFINITY), (9, 3.0)] } else { Vec::new() };
        asked.options.logprobs = [None, Some(2), Some(5)][place % 3];
    }
    compare(&model, &mut batch(&model, 3)?, &all).map(drop)
}

#[trial(device, cpu)]
fn sequences_of_equal_depth_share_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let options = GenerateOptions { steps: Some(8), max_tokens: Some(6), ..asked(0).options };
    let mut batch = batch(&model, 4)?;
    for seed in 0..4 {
        batch.add(&[3_u32, 5][..], seed, &options)?;
    }
    Said::all(&mut batch)?;
    // The prompts' eight rows together, then four rows per round of tokens: 6 × 8 passes, not four times as many.
    ensure!(batch.totals().passes == 6 * 8, "{} passes", batch.totals().passes);
    Ok(())
}

/// An exit rule that depends on the seed and that some tokens meet and others do not; criteria that need a read-out do not apply to the prompt.
fn exit(seed: u64) -> Exit {
    let mut noise = Noise::new(seed ^ 0xe817);
    let choice = noise.below(criteria().count() as u32);
    let criterion = criteria().nth(choice as usize).unwrap_or(Criterion::LatentDiff);
    let thresholds = match criterion {
        Criterion::LatentDiff => [0.5, 0.2, 0.1],
        Criterion::Cosine => [0.1, 0.02, 0.005],
        Criterion::EntropyDiff | Criterion::Kl | Criterion::MinPKl => [0.3, 0.05, 0.01],
        Criterion::ArgmaxStability => [1.0, 2.0, 3.0],
        Criterion::Gate => [0.3, 0.6, 0.9],
    };
    let never = criterion.reads_out() || noise.below(3) == 0;
    Exit {
        threshold: thresholds[noise.below(3) as usize],
        min_steps: noise.below(4),
        every: 1 + noise.below(3),
        prefill: if never { PrefillExit::Never } else { PrefillExit::Each },
        ..Exit::new(criterion)
    }
}

/// A request like [`asked`], but deeper, and with an exit rule for six of seven seeds.
fn leaving(seed: u64) -> Asked {
    let mut asked = asked(seed);
    asked.options.steps = Some(4 + Noise::new(seed).below(12));
    asked.options.exit = Some(exit(seed)).filter(|_| seed % 7 != 3);
    asked
}

#[trial(device, cpu, full)]
fn early_exits_in_batch_match_single_sessions(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all: Vec<Asked> = (0..cases(device, 200, 12)).map(leaving).collect();
    let each = compare(&model, &mut batch(&model, 8)?, &all)?;
    // With every criterion some tokens exit before their last step.
    for criterion in criteria() {
        let of = |asked: &Asked| asked.options.exit.is_some_and(|exit| exit.criterion == criterion);
        let mut early = 0;
        for (asked, said) in all.iter().zip(&each).filter(|(asked, _)| of(asked)).take(8) {
            let steps = asked.options.steps.context("a depth")?;
            early += said.iter().filter(|piece| piece.steps < steps).count();
        }
        ensure!(early > 0 || device.is_cpu(), "no token exits early by {}", criterion.name());
    }
    Ok(())
}

/// Covers the lookups that distinguish exited rows from others. With `AlwaysLast` and an exit the expected tokens come from a prompt fed token by token.
#[trial(device, cpu, full)]
fn exited_rows_expose_same_kv_in_batch(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all: Vec<Asked> = (0..cases(device, 20, 3)).map(leaving).collect();
    for lookup in [Lookup::Full, Lookup::AlwaysLast] {
        let options = |seed| SessionOptions { lookup, ..session(seed) };
        let mut batch = model.batch(BatchOptions { sequences: 5, session: options(0), ..BatchOptions::default() })?;
        for (asked, (_, said)) in all.iter().zip(together(&mut batch, &all)?) {
            let one_by_one = lookup == Lookup::AlwaysLast && asked.options.exit.is_some();
            let expected = fed(&model, options(asked.seed), asked, one_by_one)?;
            ensure!(said == expected, "{lookup:?}, {asked:?}: {said:?} instead of {expected:?}");
        }
    }
    Ok(())
}

/// Generates with a single session, its prompt fed in one pass or token by token.
fn fed(model: &Model, options: SessionOptions, asked: &Asked, one_by_one: bool) -> Result<Vec<Piece>> {
    let mut session = model.session(options)?;
    let (last, before) = asked.prompt.split_last().context("a prompt")?;
    let steps = asked.options.steps.context("a depth")?;
    for token in before.chunks(1).filter(|_| one_by_one) {
        match asked.options.exit.filter(|exit| exit.prefill != PrefillExit::Never) {
            Some(exit) => drop(session.forward_until_exit(token, steps, &exit, State::Seeded, false)?),
            None => drop(session.forward(token, steps, State::Seeded, false)?),
        }
    }
    let rest = if one_by_one { std::slice::from_ref(last) } else { &asked.prompt[..] };
    let pieces = session.generate(rest, &asked.options)?;
    Ok(pieces.collect::<Result<_, _>>()?)
}

#[trial(device, cpu, full)]
fn early_exits_reduce_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let passes = |exit| -> Result<u64> {
        let options = GenerateOptions { steps: Some(32), max_tokens: Some(8), exit, ..asked(0).options };
        let mut batch = batch(&model, 4)?;
        for seed in 0..4 {
            batch.add(&[3_u32, 5][..], seed, &options)?;
        }
        Said::all(&mut batch)?;
        Ok(batch.totals().passes)
    };
    let exit = Exit { threshold: 0.3, ..Exit::new(Criterion::LatentDiff) };
    let (all, early) = (passes(None)?, passes(Some(exit))?);
    ensure!(all == 8 * 32 && early < all * 3 / 4, "{early} passes, {all} without exits");
    Ok(())
}

/// Depths that change from token to token, in a batch with early exits; an invalid depth fails only its own sequence.
#[trial(device, cpu, full)]
fn steps_can_vary_per_token(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut all: Vec<Asked> = (80..80 + cases(device, 30, 4)).map(leaving).collect();
    for asked in all.iter_mut().step_by(2) {
        let seed = asked.seed as u32;
        asked.options.exit = None;
        asked.options.steps_of = Some(StepsOf::new(move |token| 1 + (seed + 5 * token) % 13));
    }
    compare(&model, &mut batch(&model, 8)?, &all)?;

    let mut batch = batch(&model, 2)?;
    let none = GenerateOptions { steps_of: Some(StepsOf::new(|token| 2 - token)), ..asked(1).options };
    let none = GenerateOptions { max_tokens: Some(9), ..none };
    let (fails, other) = (batch.add(&[5_u32][..], 1, &none)?, asked(6));
    let going_on = batch.add(other.prompt.as_slice(), other.seed, &other.options)?;
    let mut said = Said::all(&mut batch)?;
    ensure!(said.errors.len() == 1 && said.errors[0].contains("steps"), "{:?}", said.errors);
    ensure!(said.reasons[&fails] == StopReason::Failed, "{:?}", said.reasons);
    let (said, expected) = (said.of(going_on), alone(&model, &other)?);
    ensure!(said == expected, "{said:?} instead of {expected:?}");
    Ok(())
}

/// Both kinds of carried states and every kind of noise, in a batch with plain sequences.
#[trial(device, cpu, full)]
fn carried_states_and_noise_are_per_sequence(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut all: Vec<Asked> = (200..200 + cases(device, 60, 8)).map(leaving).collect();
    for (asked, place) in all.iter_mut().zip(0..) {
        asked.options.continuous = [None, Some(Continuous::Raw), Some(Continuous::Normed)][place % 3];
        let kind = NoiseKind::ALL[place % 5];
        let noise = ruminate::Noise { renorm: place % 4 == 0, ..ruminate::Noise::new(kind, 0.4) };
        asked.options.noise = Some(noise).filter(|_| place % 2 == 0);
        asked.options.logprobs = Some(0);
    }
    let each = compare(&model, &mut batch(&model, 6)?, &all)?;
    // Carried states and noise change the tokens.
    let mut others = 0;
    for (asked, said) in all.iter().zip(each).skip(1).take(5) {
        let plain = GenerateOptions { continuous: None, noise: None, ..asked.options.clone() };
        others += usize::from(said != alone(&model, &Asked { options: plain, ..asked.clone() })?);
    }
    ensure!(others >= 3, "only {others} of 5 sequences differ from plain ones");
    Ok(())
}

/// With shared keys the rows of a prompt run one after the other, like tokens that are fed one by one.
#[trial(device, cpu, full)]
fn shared_kv_steps_generate_same_tokens_in_batch(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let options = |seed| SessionOptions { share: KvShare::Steps(2), ..session(seed) };
    let all: Vec<Asked> = (41..45).map(asked).chain((41..45).map(leaving)).collect();
    let mut batch = model.batch(BatchOptions { sequences: 3, session: options(0), ..BatchOptions::default() })?;
    for (asked, (_, said)) in all.iter().zip(together(&mut batch, &all)?) {
        let expected = fed(&model, options(asked.seed), asked, true)?;
        ensure!(said == expected, "{asked:?}: {said:?} instead of {expected:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn sequences_end_with_their_own_reasons(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let plain = GenerateOptions { steps: Some(4), max_tokens: Some(5), ..asked(0).options };
    let prompt = asked(0).prompt;
    let first = alone(&model, &Asked { prompt: prompt.clone(), seed: 0, options: plain.clone() })?;
    let second = first.get(1).context("two tokens")?.token;
    let mut batch = batch(&model, 4)?;
    let mut add = |options| batch.add(prompt.as_slice(), 0, &options);
    let limited = add(plain.clone())?;
    let ended = add(GenerateOptions { end_tokens: Some(vec![second]), ..plain.clone() })?;
    let full = add(GenerateOptions { max_tokens: None, ..plain })?;
    let mut said = Said::all(&mut batch)?;
    let place = first.iter().position(|piece| piece.token == second).unwrap_or(0);
    let expected = [
        (limited, 5, StopReason::MaxTokens),
        (ended, place + 1, StopReason::EndToken(second)),
        (full, 64 - prompt.len() + 1, StopReason::ContextFull),
    ];
    for (id, count, reason) in expected {
        ensure!(said.reasons[&id] == reason, "{:?} instead of {reason:?}", said.reasons[&id]);
        let found = said.of(id).len();
        ensure!(found == count, "{found} tokens instead of {count}, {reason:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn finished_sequences_free_their_memory(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let options = SessionOptions { context: Some(64), ..SessionOptions::default() };
    let mut batch = model.batch(BatchOptions { sequences: 2, session: options, ..BatchOptions::default() })?;
    let mut bytes = Vec::new();
    for round in 0..6 {
        for seed in 0..2 {
            let asked = asked(60 + seed);
            batch.add(asked.prompt.as_slice(), round, &asked.options)?;
        }
        Said::all(&mut batch)?;
        bytes.push(batch.totals().kv_bytes);
    }
    ensure!(bytes.iter().all(|held| *held == bytes[0]), "{bytes:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn cancelled_sequences_end_without_effect_on_others(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut batch = batch(&model, 1)?;
    let endless = Asked { options: GenerateOptions { max_tokens: None, ..asked(2).options }, ..asked(2) };
    let (first, waiting, last) = {
        let mut add = |asked: &Asked| batch.add(asked.prompt.as_slice(), asked.seed, &asked.options);
        (add(&endless)?, add(&asked(3))?, add(&asked(4))?)
    };
    let event = batch.wait()?.context("a token")?;
    ensure!(matches!(event, Event::Token { id, .. } if id == first), "{event:?}");
    batch.cancel(waiting)?;
    batch.cancel(first)?;
    let mut said = Said::all(&mut batch)?;
    for (id, reason) in
        [(first, StopReason::Cancelled), (waiting, StopReason::Cancelled), (last, StopReason::MaxTokens)]
    {
        ensure!(said.reasons.get(&id) == Some(&reason), "{:?}", said.reasons);
    }
    ensure!(said.of(waiting).is_empty(), "a sequence that never began has tokens");
    let said = said.of(last);
    let expected = alone(&model, &asked(4))?;
    ensure!(said == expected, "{said:?} instead of {expected:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn invalid_requests_are_refused(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for sequences in [0, 9] {
        let message = model
            .batch(BatchOptions { sequences, session: session(0), ..BatchOptions::default() })
            .err()
            .map(|error| error.to_string());
        ensure!(message.as_deref().is_some_and(|text| text.contains("sequences")), "{message:?}");
    }
    let mut batch = batch(&model, 2)?;
    let plain = asked(0).options;
    let speculate = Some(Speculate::default());
    let banned = GenerateOptions { bad_words: vec![vec![3]], speculate, ..plain.clone() };
    let scored = GenerateOptions { prompt_logprobs: true, speculate, ..plain.clone() };
    let both = GenerateOptions { pipeline: Some(Pipeline::default()), speculate, ..plain.clone() };
    let cases: [(&[u32], GenerateOptions, &str); 7] = [
        (&[1], banned, "bad_words"),
        (&[1], scored, "prompt_logprobs"),
        (&[1], both, "pipeline"),
        (&[], plain.clone(), "empty"),
        (&[1; 65], plain.clone(), "65 tokens"),
        (&[100_000], plain.clone(), "100000"),
        (&[1], GenerateOptions { steps: Some(0), ..plain }, "steps"),
    ];
    for (prompt, options, part) in cases {
        let message = batch.add(prompt, 0, &options).err().map(|error| error.to_string());
        ensure!(message.as_deref().is_some_and(|text| text.contains(part)), "{part}: {message:?}");
    }
    ensure!(batch.wait()?.is_none() && batch.is_idle(), "an event without a sequence");
    Ok(())
}
