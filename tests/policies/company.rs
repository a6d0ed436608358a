//! Features of a batch beyond shared passes: chunked long prompts, the prefix cache, preemption, rules that depend on earlier tokens, prompt scores and forks.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ruminate::{
    Batch, BatchOptions, Criterion, Event, Exit, GenerateOptions, KvShare, Lookup, Model, Piece, Pipeline, PrefillExit,
    PromptToken, Sampling, SequenceId, SessionOptions, Speculate, State, StepsOf, StopReason,
};
use ruminate_engine::Device;
use ruminate_tests::{demo_model, greedy, prompt_of, trial};

const SAMPLED: Sampling = Sampling { temperature: 1.2, top_k: 50, top_p: 0.95, ..Sampling::GREEDY };

fn session(seed: u64, context: u32) -> SessionOptions {
    SessionOptions { seed, context: Some(context), ..SessionOptions::default() }
}

fn exact(seed: u64, context: u32) -> SessionOptions {
    SessionOptions { invariant: true, ..session(seed, context) }
}

/// The events of a batch by sequence: pieces, prompt scores, end reasons and cached tokens.
#[derive(Default)]
struct Heard {
    pieces: HashMap<SequenceId, Vec<Piece>>,
    scores: HashMap<SequenceId, Vec<PromptToken>>,
    ends: HashMap<SequenceId, StopReason>,
    cached: HashMap<SequenceId, u32>,
}

impl Heard {
    fn note(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Token { id, piece } => self.pieces.entry(id).or_default().push(piece),
            Event::Prompt { id, tokens } => drop(self.scores.insert(id, tokens)),
            Event::Done { id, reason, statistics } => {
                self.cached.insert(id, statistics.cached_tokens);
                ensure!(self.ends.insert(id, reason).is_none(), "sequence {id} ended twice");
            }
            event => anyhow::bail!("{event:?}"),
        }
        Ok(())
    }

    fn all(batch: &mut Batch) -> Result<Self> {
        let mut heard = Self::default();
        while let Some(event) = batch.wait()? {
            heard.note(event)?;
        }
        ensure!(batch.is_idle(), "the batch is not idle");
        Ok(heard)
    }

    fn tokens(&self, id: SequenceId) -> Vec<u32> {
        self.pieces.get(&id).into_iter().flatten().map(|piece| piece.token).collect()
    }
}

fn alone(model: &Model, session: SessionOptions, prompt: &[u32], options: &GenerateOptions) -> Result<Vec<u32>> {
    let mut session = model.session(session)?;
    session.generate(prompt, options)?.map(|piece| Ok(piece?.token)).collect()
}

/// Eight sequences decode while a prompt of 300 tokens arrives.
#[trial(device, cpu, full)]
fn long_prompt_shares_passes_with_decoding_rows(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let long = prompt_of(300);
    let options = greedy(4, 40);
    let cost = |company: u32| -> Result<(u64, Vec<u32>, u32)> {
        let chunk =
            BatchOptions { prefill_chunk: Some(64), session: session(3, 512), sequences: 9, ..BatchOptions::default() };
        let mut batch = model.batch(chunk)?;
        let mut heard = Heard::default();
        for seed in 0..company {
            batch.add(&prompt_of(3 + seed), seed.into(), &options)?;
        }
        while heard.pieces.len() < company as usize || heard.pieces.values().any(|said| said.len() < 2) {
            heard.note(batch.wait()?.context("an event")?)?;
        }
        let (id, before) = (batch.add(&long, 3, &greedy(4, 2))?, batch.totals());
        // The most passes between two tokens of another sequence.
        let (mut last, mut longest) = (HashMap::new(), 0);
        while !heard.pieces.contains_key(&id) {
            let event = batch.wait()?.context("an event")?;
            let passes = batch.totals().passes;
            if let Event::Token { id, .. } = &event
                && let Some(before) = last.insert(*id, passes)
            {
                longest = longest.max((passes - before) as u32);
            }
            heard.note(event)?;
        }
        let spent = batch.totals().capacity - before.capacity;
        Ok((spent, heard.tokens(id), longest))
    };
    let ((alone, said, _), (beside, found, longest)) = (cost(0)?, cost(8)?);
    ensure!(said == found, "{found:?} beside eight sequences, {said:?} alone");
    ensure!(beside * 10 <= alone * 13, "passes with room for {beside} rows beside eight sequences, {alone} alone");
    // The current round and the next one, of four steps each.
    ensure!(longest <= 8, "{longest} passes between two tokens");
    Ok(())
}

#[trial(device, cpu, full)]
fn sequences_with_common_prefix_share_pages(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let options =
        BatchOptions { session: exact(0, 256), prefix_cache: 64 << 20, sequences: 2, ..BatchOptions::default() };
    let states = SessionOptions { state_seed: Some(9), ..options.session.clone() };
    let mut batch = model.batch(BatchOptions { session: states.clone(), ..options })?;
    let system = prompt_of(70);
    let question = |more: &[u32]| [&system[..], more].concat();
    let sampled = GenerateOptions { sampling: SAMPLED, ..greedy(6, 9) };
    let mut ask = |prompt: &[u32], seed: u64, options: &GenerateOptions| -> Result<u32> {
        let id = batch.add(prompt, seed, options)?;
        let heard = Heard::all(&mut batch)?;
        let expected = alone(&model, SessionOptions { seed, ..states.clone() }, prompt, options)?;
        ensure!(heard.tokens(id) == expected, "{:?} instead of {expected:?}", heard.tokens(id));
        Ok(heard.cached[&id])
    };
    // Two full pages of 32 tokens are equal.
    let found = [
        ask(&question(&[1, 2, 3]), 1, &sampled)?,
        ask(&question(&[4, 5]), 2, &sampled)?,
        ask(&question(&[1, 2, 3]), 3, &sampled)?,
        // A different depth and a different exit rule share no pages.
        ask(&question(&[4, 5]), 2, &greedy(5, 3))?,
        ask(&question(&[4]), 2, &GenerateOptions { exit: Some(Exit::new(Criterion::LatentDiff)), ..greedy(6, 3) })?,
        ask(&question(&[4, 5]), 2, &GenerateOptions { exit: Some(Exit::new(Criterion::LatentDiff)), ..greedy(6, 3) })?,
        ask(&system[..64], 2, &sampled)?,
    ];
    ensure!(found == [0, 64, 64, 0, 0, 64, 32], "{found:?} cached tokens");
    // Pages of generated tokens are shared as well.
    let said = alone(&model, SessionOptions { seed: 5, ..states.clone() }, &system, &greedy(6, 40))?;
    let mut batch = model.batch(BatchOptions { session: states, prefix_cache: 64 << 20, ..BatchOptions::default() })?;
    let first = batch.add(&system, 5, &greedy(6, 40))?;
    ensure!(Heard::all(&mut batch)?.tokens(first) == said, "the tokens differ");
    let second = batch.add(&[&system[..], &said[..], &[7]].concat(), 5, &greedy(6, 2))?;
    let cached = Heard::all(&mut batch)?.cached[&second];
    ensure!(cached == 96, "{cached} cached tokens");
    ensure!(batch.totals().prefix_hits == 1 && batch.totals().cached_tokens == 96, "{:?}", batch.totals());
    Ok(())
}

/// Sequences that begin alike and arrive together compute their common prompt once, if the cache has room for it.
#[trial(device, cpu, full)]
fn prompts_that_arrive_together_are_computed_once(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let states = SessionOptions { state_seed: Some(9), ..exact(0, 256) };
    let sampled = GenerateOptions { sampling: SAMPLED, ..greedy(6, 5) };
    let system = prompt_of(140);
    let (other, longer) = (prompt_of(50).split_off(10), [&system[..130], &[3, 4]].concat());
    let prompts = [&system[..], &longer, &other, &system, &system[..20]];
    for (prefix_cache, shared) in [(64 << 20, 2 * 128), (64, 0), (0, 0)] {
        let mut batch =
            model.batch(BatchOptions { session: states.clone(), prefix_cache, ..BatchOptions::default() })?;
        let ids: Vec<_> =
            (0..).zip(prompts).map(|(seed, prompt)| batch.add(prompt, seed, &sampled)).collect::<Result<_, _>>()?;
        let heard = Heard::all(&mut batch)?;
        for ((seed, prompt), id) in (0..).zip(prompts).zip(ids) {
            let expected = alone(&model, SessionOptions { seed, ..states.clone() }, prompt, &sampled)?;
            ensure!(heard.tokens(id) == expected, "{seed}: {:?} instead of {expected:?}", heard.tokens(id));
        }
        let cached = batch.totals().cached_tokens;
        ensure!(cached == shared, "{cached} cached tokens with a cache of {prefix_cache} bytes");
    }
    // The leader is cancelled in the middle of its prompt: its follower goes on alone.
    let options = BatchOptions { prefill_chunk: Some(8), sequences: 2, ..BatchOptions::default() };
    let mut batch = model.batch(BatchOptions { session: states.clone(), prefix_cache: 64 << 20, ..options })?;
    let (leader, follower) = (batch.add(&system, 1, &sampled)?, batch.add(&system, 2, &sampled)?);
    batch.step(Duration::from_millis(1))?;
    batch.cancel(leader)?;
    let expected = alone(&model, SessionOptions { seed: 2, ..states.clone() }, &system, &sampled)?;
    let said = Heard::all(&mut batch)?.tokens(follower);
    ensure!(said == expected, "{said:?} instead of {expected:?}");
    // A follower keeps its slot from later sequences.
    let options = BatchOptions { session: states, prefix_cache: 64 << 20, sequences: 2, ..BatchOptions::default() };
    let mut batch = model.batch(options)?;
    let ids = [batch.add(&system, 1, &sampled)?, batch.add(&system, 2, &sampled)?, batch.add(&other, 3, &sampled)?];
    let mut begun = Vec::new();
    while let Some(event) = batch.wait()? {
        if let Event::Token { id, .. } = event
            && !begun.contains(&id)
        {
            begun.push(id);
        }
    }
    ensure!(begun == ids, "{begun:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn prefix_cache_stays_within_its_limit(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let group = model.spec().kv_bytes_per_token(4, SessionOptions::default().kv_dtype, Default::default()) * 32;
    let states = SessionOptions { state_seed: Some(1), steps: Some(4), ..session(0, 128) };
    let mut batch = model.batch(BatchOptions {
        session: states,
        prefix_cache: 3 * group,
        sequences: 1,
        ..BatchOptions::default()
    })?;
    let mut bytes = Vec::new();
    for round in 0..12 {
        let id = batch.add(&prompt_of(40 + 3 * (round % 5)), 1, &greedy(4, 3))?;
        Heard::all(&mut batch)?;
        ensure!(batch.statistics(id).is_none(), "an ended sequence still has statistics");
        ensure!(batch.totals().prefix_bytes <= 3 * group, "{:?}", batch.totals());
        bytes.push(batch.totals().kv_bytes);
    }
    ensure!(bytes[4..].iter().all(|held| *held == bytes[4]), "{bytes:?}");
    // Pages of steps that no row has reached count too, because they are allocated.
    let exit = Some(Exit { threshold: 1e9, ..Exit::new(Criterion::LatentDiff) });
    let states = SessionOptions { state_seed: Some(1), steps: Some(4), ..session(0, 128) };
    let mut batch = model.batch(BatchOptions {
        session: states,
        prefix_cache: 3 * group,
        sequences: 1,
        ..BatchOptions::default()
    })?;
    batch.add(&prompt_of(40), 1, &GenerateOptions { exit, ..greedy(4, 2) })?;
    Heard::all(&mut batch)?;
    let totals = batch.totals();
    ensure!(totals.prefix_bytes == group, "{totals:?}");
    ensure!(totals.steps == 2 && totals.most_steps == 8, "{totals:?}");
    Ok(())
}

/// The memory holds a few pages, so sequences are preempted and later resumed.
#[trial(device, cpu, full)]
fn preempted_sequences_resume_with_same_tokens(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let group = model.spec().kv_bytes_per_token(5, SessionOptions::default().kv_dtype, Default::default()) * 32;
    let session = |seed| SessionOptions { steps: Some(5), ..exact(seed, 160) };
    let kinds = [
        greedy(5, 60),
        GenerateOptions { sampling: SAMPLED, ..greedy(5, 60) },
        GenerateOptions { exit: Some(Exit { threshold: 0.3, ..Exit::new(Criterion::LatentDiff) }), ..greedy(5, 60) },
        // This one cannot be recomputed, so it is admitted only once there is room for its whole length.
        GenerateOptions { continuous: Some(ruminate::Continuous::Raw), ..greedy(5, 60) },
        GenerateOptions { bad_words: vec![vec![7], vec![9, 11]], sampling: SAMPLED, ..greedy(5, 60) },
    ];
    let options =
        BatchOptions { sequences: 4, session: session(0), kv_memory: Some(6 * group), ..BatchOptions::default() };
    let mut batch = model.batch(options)?;
    let prompt = |seed: u32| prompt_of(20 + seed);
    let ids: Vec<_> = (0..10)
        .map(|seed| batch.add(&prompt(seed), seed.into(), &kinds[seed as usize % kinds.len()]))
        .collect::<Result<_, _>>()?;
    let heard = Heard::all(&mut batch)?;
    for (seed, id) in (0..).zip(ids) {
        let options = &kinds[seed as usize % kinds.len()];
        let expected = alone(&model, session(seed.into()), &prompt(seed), options)?;
        ensure!(heard.tokens(id) == expected, "{seed}: {:?} instead of {expected:?}", heard.tokens(id));
    }
    ensure!(batch.totals().preempted > 0, "no sequence was preempted");
    // A full context fits here, but not into a third of the memory.
    batch.add(&prompt_of(150), 1, &greedy(5, 200))?;
    let small = BatchOptions { session: session(0), kv_memory: Some(2 * group), ..BatchOptions::default() };
    let mut batch = model.batch(small)?;
    let refused = batch.add(&prompt_of(150), 1, &greedy(5, 200)).err().map(|error| error.to_string());
    ensure!(refused.as_deref().is_some_and(|text| text.contains("keys and values")), "{refused:?}");
    let refused = batch.add(&prompt_of(5), 1, &greedy(9, 2)).err().map(|error| error.to_string());
    ensure!(refused.as_deref().is_some_and(|text| text.contains("steps")), "{refused:?}");
    Ok(())
}

/// Bans and forced tokens that depend on earlier tokens, in a batch with early exits.
#[trial(device, cpu, full)]
fn rules_on_earlier_tokens_hold_in_batch(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut batch = model.batch(BatchOptions { session: exact(0, 96), ..BatchOptions::default() })?;
    let ruled = |seed: u32| {
        let exit = Exit { threshold: 0.3, ..Exit::new(Criterion::LatentDiff) };
        GenerateOptions {
            bad_words: vec![vec![5, 6], vec![seed], vec![40 + seed]],
            begin_suppress: vec![3 + seed],
            forced_end: vec![11],
            sampling: if seed.is_multiple_of(2) { Sampling::GREEDY } else { SAMPLED },
            exit: Some(exit).filter(|_| seed % 3 == 1),
            ..greedy(4 + seed % 3, 10)
        }
    };
    let ids: Vec<_> =
        (0..6).map(|seed| batch.add(&prompt_of(9 + seed), seed.into(), &ruled(seed))).collect::<Result<_, _>>()?;
    let free = batch.add(&prompt_of(4), 77, &greedy(6, 12))?;
    let heard = Heard::all(&mut batch)?;
    for (seed, id) in (0..).zip(ids) {
        let expected = alone(&model, exact(seed.into(), 96), &prompt_of(9 + seed), &ruled(seed))?;
        ensure!(heard.tokens(id) == expected, "{seed}: {:?} instead of {expected:?}", heard.tokens(id));
        ensure!(expected.last() == Some(&11), "{expected:?} does not end with the forced token 11");
    }
    ensure!(heard.tokens(free) == alone(&model, exact(77, 96), &prompt_of(4), &greedy(6, 12))?, "the tokens differ");
    Ok(())
}

/// The log-probabilities of a prompt's tokens equal those computed from its logits.
#[trial(device, cpu, full)]
fn prompt_scores_in_batch_match_logits(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut batch = model.batch(BatchOptions { session: exact(4, 96), ..BatchOptions::default() })?;
    let prompt = prompt_of(21);
    let scored = |tokens| GenerateOptions { prompt_logprobs: true, logprobs: Some(3), ..greedy(5, tokens) };
    let other = batch.add(&prompt_of(6), 1, &greedy(5, 9))?;
    let ids = [
        batch.add(&prompt, 4, &scored(4))?,
        batch.add(&prompt, 4, &scored(0))?,
        batch.add(&prompt[..1], 4, &scored(1))?,
    ];
    let silent = batch.add(&prompt, 4, &greedy(5, 0))?;
    let heard = Heard::all(&mut batch)?;
    ensure!(heard.tokens(other) == alone(&model, exact(1, 96), &prompt_of(6), &greedy(5, 9))?, "the tokens differ");
    let logits = model.session(exact(4, 96))?.forward(&prompt, 5, State::Seeded, true)?;
    let vocab = logits.len() / prompt.len();
    for id in &ids[..2] {
        let scores = &heard.scores[id];
        ensure!(scores.len() == prompt.len() && scores[0].logprob.is_none(), "{scores:?}");
        for (place, score) in scores.iter().enumerate().skip(1) {
            let row = &logits[(place - 1) * vocab..place * vocab];
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|logit| f64::from(logit - most).exp()).sum();
            let expected = f64::from(row[prompt[place] as usize] - most) - sum.ln();
            let found = f64::from(score.logprob.context("a number")?);
            ensure!((found - expected).abs() < 1e-3, "{place}: {found} instead of {expected}");
            ensure!(score.token == prompt[place] && score.top.len() == 3, "{score:?}");
            ensure!(row[score.top[0].0 as usize] == most, "{score:?}: the first top token is not the most likely");
        }
    }
    ensure!(heard.scores[&ids[2]].len() == 1 && heard.tokens(ids[2]).len() == 1, "the prompt of one token");
    ensure!(heard.tokens(ids[0]) == alone(&model, exact(4, 96), &prompt, &greedy(5, 4))?, "the tokens differ");
    for id in [ids[1], silent] {
        ensure!(heard.tokens(id).is_empty() && heard.ends[&id] == StopReason::MaxTokens, "{:?}", heard.ends[&id]);
    }
    Ok(())
}

/// A fork continues the tokens of its original from the same pages.
#[trial(device, cpu, full)]
fn fork_continues_original_from_shared_pages(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let states = SessionOptions { state_seed: Some(2), ..exact(0, 128) };
    let mut batch = model.batch(BatchOptions { session: states.clone(), sequences: 3, ..BatchOptions::default() })?;
    let prompt = prompt_of(66);
    let first = batch.add(&prompt, 1, &greedy(4, 20))?;
    let mut heard = Heard::default();
    while heard.tokens(first).len() < 5 {
        heard.note(batch.wait()?.context("an event")?)?;
    }
    let so_far = batch.tokens(first).context("tokens")?.to_vec();
    let other = GenerateOptions { sampling: SAMPLED, ..greedy(4, 6) };
    let fork = batch.fork(first, 8, &other)?;
    let rest = Heard::all(&mut batch)?;
    let expected = alone(&model, SessionOptions { seed: 8, ..states.clone() }, &so_far, &other)?;
    ensure!(rest.tokens(fork) == expected, "{:?} instead of {expected:?}", rest.tokens(fork));
    ensure!(rest.cached[&fork] == 64, "{} cached tokens", rest.cached[&fork]);
    let all = [heard.tokens(first), rest.tokens(first)].concat();
    ensure!(
        all == alone(&model, SessionOptions { seed: 1, ..states }, &prompt, &greedy(4, 20))?,
        "the original differs"
    );
    ensure!(batch.fork(first, 8, &other).is_err(), "an ended sequence was forked");
    Ok(())
}

/// A fork holds pages until it is admitted. They are freed, also with a prefix cache that holds the same pages and for forks that need passes of their own.
#[trial(device, cpu, full)]
fn forks_free_their_pages(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let states = SessionOptions { state_seed: Some(2), steps: Some(4), ..session(0, 128) };
    let group = model.spec().kv_bytes_per_token(4, states.kv_dtype, KvShare::None) * 32;
    let ahead = GenerateOptions { speculate: Some(Speculate::default()), ..greedy(4, 2) };
    for (options, prefix_cache) in [(greedy(4, 2), 0), (greedy(4, 2), 2 * group), (ahead, 0)] {
        let options_of_batch =
            BatchOptions { session: states.clone(), sequences: 2, prefix_cache, ..BatchOptions::default() };
        let mut batch = model.batch(options_of_batch)?;
        let mut bytes = Vec::new();
        for _ in 0..12 {
            let first = batch.add(&prompt_of(66), 1, &greedy(4, 8))?;
            while !matches!(batch.wait()?.context("an event")?, Event::Token { .. }) {}
            batch.fork(first, 8, &options)?;
            Heard::all(&mut batch)?;
            bytes.push(batch.totals().kv_bytes);
        }
        ensure!(bytes[2..].iter().all(|held| *held == bytes[2]), "{prefix_cache} bytes: {bytes:?}");
    }
    Ok(())
}

/// Bounded steps, as a host makes them between frames, generate the same tokens and never wait.
#[trial(device, cpu, full)]
fn bounded_steps_generate_same_tokens(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut batch = model.batch(BatchOptions { session: exact(0, 96), sequences: 3, ..BatchOptions::default() })?;
    let options = |seed: u32| GenerateOptions { sampling: SAMPLED, ..greedy(3 + seed, 8) };
    let ids: Vec<_> =
        (0..5).map(|seed| batch.add(&prompt_of(5 + seed), seed.into(), &options(seed))).collect::<Result<_, _>>()?;
    let gone = batch.add(&prompt_of(5), 9, &greedy(4, 50))?;
    let (mut heard, before) = (Heard::default(), device.counters());
    while !batch.is_idle() {
        match batch.step(Duration::from_micros(300))? {
            Some(event) => heard.note(event)?,
            None => std::thread::sleep(Duration::from_micros(200)),
        }
        if heard.tokens(gone).len() == 2 {
            batch.cancel(gone)?;
        }
    }
    ensure!(device.is_cpu() || (device.counters() - before).waits == 0, "{:?}", device.counters() - before);
    for (seed, id) in (0..).zip(ids) {
        let expected = alone(&model, exact(seed.into(), 96), &prompt_of(5 + seed), &options(seed))?;
        ensure!(heard.tokens(id) == expected, "{seed}: {:?} instead of {expected:?}", heard.tokens(id));
    }
    ensure!(heard.ends[&gone] == StopReason::Cancelled, "{:?}", heard.ends[&gone]);
    Ok(())
}

/// Compares the number of passes of eight sequences with that of one.
#[trial(device, cpu, full)]
fn eight_sequences_share_nearly_all_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let passes = |count: u32| -> Result<u64> {
        let mut batch = model.batch(BatchOptions { session: session(0, 96), ..BatchOptions::default() })?;
        for seed in 0..count {
            batch.add(&prompt_of(10), seed.into(), &greedy(8, 32))?;
        }
        let heard = Heard::all(&mut batch)?;
        ensure!(heard.pieces.values().all(|said| said.len() == 32), "tokens are missing");
        Ok(batch.totals().passes)
    };
    let (one, eight) = (passes(1)?, passes(8)?);
    ensure!(eight * 100 <= one * 115, "{eight} passes for eight sequences, {one} for one");
    Ok(())
}

/// Lookups under which keys and values depend on the other rows of a pass.
#[trial(device, cpu, full)]
fn kv_that_depends_on_other_rows_is_not_shared(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let states = SessionOptions { state_seed: Some(2), lookup: Lookup::AlwaysLast, ..exact(0, 128) };
    let mut batch = model.batch(BatchOptions { session: states, prefix_cache: 1 << 20, ..BatchOptions::default() })?;
    let options = GenerateOptions { exit: Some(Exit::new(Criterion::LatentDiff)), ..greedy(4, 2) };
    for _ in 0..2 {
        batch.add(&prompt_of(40), 1, &options)?;
        Heard::all(&mut batch)?;
    }
    ensure!(batch.totals().cached_tokens == 0, "{:?}", batch.totals());
    Ok(())
}

/// Sequences that compute ahead share no passes; they run in a batch with plain ones.
#[trial(device, cpu, full)]
fn sequences_that_compute_ahead_generate_same_tokens_as_alone(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let exit = |criterion, prefill| Some(Exit { prefill, ..Exit::new(criterion) });
    let each = PrefillExit::Each;
    let sampled = GenerateOptions { sampling: SAMPLED, ..greedy(8, 12) };
    let kinds = [
        greedy(8, 12),
        GenerateOptions { speculate: Some(Speculate::default()), ..greedy(8, 12) },
        GenerateOptions { speculate: Some(Speculate::default()), ..sampled.clone() },
        GenerateOptions { pipeline: Some(Pipeline::default()), ..sampled.clone() },
        GenerateOptions { exit: exit(Criterion::Kl, each), ..sampled.clone() },
        GenerateOptions { exit: exit(Criterion::LatentDiff, PrefillExit::Together), ..sampled.clone() },
        GenerateOptions {
            exit: exit(Criterion::LatentDiff, each),
            steps_of: Some(StepsOf::new(|at| 2 + at)),
            ..sampled
        },
    ];
    let options = BatchOptions { session: exact(0, 96), sequences: 4, ..BatchOptions::default() };
    let mut batch = model.batch(options)?;
    let of = |seed: u32| &kinds[seed as usize % kinds.len()];
    let ids: Vec<_> =
        (0..14).map(|seed| batch.add(&prompt_of(4 + 3 * seed), seed.into(), of(seed))).collect::<Result<_, _>>()?;
    let gone = batch.add(&prompt_of(5), 9, &kinds[1])?;
    let (mut heard, mut frames) = (Heard::default(), 0);
    while !batch.is_idle() {
        // Bounded steps and calls that wait can alternate.
        frames += 1;
        let event = if frames % 3 == 0 { batch.step(Duration::from_millis(1))? } else { batch.wait()? };
        event.map_or(Ok(()), |event| heard.note(event))?;
        if heard.tokens(gone).len() == 2 {
            batch.cancel(gone)?;
        }
    }
    for (seed, id) in (0..).zip(ids) {
        let expected = alone(&model, exact(seed.into(), 96), &prompt_of(4 + 3 * seed), of(seed))?;
        ensure!(heard.tokens(id) == expected, "{seed}: {:?} instead of {expected:?}", heard.tokens(id));
        ensure!(heard.ends[&id] == StopReason::MaxTokens, "{:?}", heard.ends[&id]);
    }
    ensure!(heard.ends[&gone] == StopReason::Cancelled, "{:?}", heard.ends[&gone]);
    Ok(())
}
