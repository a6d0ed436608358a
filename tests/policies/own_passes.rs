//! Sequences of a batch with passes of their own: they share the batch's prompts and memory, and the plans of earlier sequences.

use anyhow::{Context, Result, ensure};
use ruminate::{
    Batch, BatchOptions, Criterion, Event, Exit, GenerateOptions, Model, Pipeline, PrefillExit, SequenceId,
    SessionOptions, Speculate, Statistics,
};
use ruminate_engine::Device;
use ruminate_tests::{demo_model, greedy, prompt_of, trial};

fn exact() -> SessionOptions {
    SessionOptions { invariant: true, state_seed: Some(9), context: Some(256), ..SessionOptions::default() }
}

fn drafts() -> GenerateOptions {
    GenerateOptions { speculate: Some(Speculate { draft_steps: Some(2), ..Speculate::default() }), ..greedy(6, 9) }
}

fn pipelined() -> GenerateOptions {
    GenerateOptions { pipeline: Some(Pipeline { every: Some(2) }), ..greedy(6, 9) }
}

/// Tokens and figures of the only sequence of a batch.
fn only(batch: &mut Batch) -> Result<(Vec<u32>, Statistics)> {
    let mut tokens = Vec::new();
    loop {
        match batch.wait()?.context("the sequence has no end")? {
            Event::Token { piece, .. } => tokens.push(piece.token),
            Event::Done { statistics, .. } => return Ok((tokens, statistics)),
            event => anyhow::bail!("{event:?}"),
        }
    }
}

fn alone(model: &Model, seed: u64, prompt: &[u32], options: &GenerateOptions) -> Result<Vec<u32>> {
    let mut session = model.session(SessionOptions { seed, ..exact() })?;
    session.generate(prompt, options)?.map(|piece| Ok(piece?.token)).collect()
}

#[trial(device, cpu, full)]
fn prompts_share_pages_with_those_of_shared_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let system = prompt_of(70);
    let together = Exit { prefill: PrefillExit::Together, ..Exit::new(Criterion::LatentDiff) };
    let plain = greedy(6, 9);
    let asked = [
        (&plain, 0),
        (&drafts(), 64),
        (&pipelined(), 64),
        (&plain, 64),
        // Its rows exit together, which gives other keys.
        (&GenerateOptions { exit: Some(together), ..greedy(6, 9) }, 0),
    ];
    let batch = || {
        let options =
            BatchOptions { session: exact(), prefix_cache: 64 << 20, sequences: 2, ..BatchOptions::default() };
        model.batch(options)
    };
    let mut shared = batch()?;
    for (seed, (options, expected)) in (0..).zip(asked) {
        let prompt = [&system[..], &[seed as u32 + 1]].concat();
        shared.add(&prompt, seed, options)?;
        let (tokens, statistics) = only(&mut shared)?;
        let session = alone(&model, seed, &prompt, options)?;
        ensure!(tokens == session, "{options:?}: {tokens:?} instead of {session:?}");
        ensure!(statistics.cached_tokens == expected, "{options:?}: {} cached tokens", statistics.cached_tokens);
        ensure!(statistics.prompt_tokens == 71, "{options:?}: {} tokens of the prompt", statistics.prompt_tokens);
    }
    // The prompt of a sequence with drafts is kept for later sequences.
    let mut first = batch()?;
    for (seed, (options, expected)) in [(drafts(), 0), (plain.clone(), 64)].iter().enumerate() {
        first.add(&system, seed as u64, options)?;
        let cached = only(&mut first)?.1.cached_tokens;
        ensure!(cached == *expected, "{cached} cached tokens");
    }
    Ok(())
}

/// There is memory for one sequence at a time: the second waits, and both finish.
#[trial(device, cpu, full)]
fn memory_of_own_passes_is_that_of_the_batch(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let session = SessionOptions { context: Some(512), steps: Some(6), ..SessionOptions::default() };
    let most =
        |kv_memory| BatchOptions { session: session.clone(), sequences: 2, kv_memory, ..BatchOptions::default() };
    let mut free = model.batch(most(None))?;
    let prompt = prompt_of(40);
    free.add(&prompt, 1, &drafts())?;
    only(&mut free)?;
    let needed = free.totals().kv_bytes;
    ensure!(needed > 0, "the cache of the batch holds nothing");

    // Memory for one full context, but not for two.
    let positions = 512_u64.div_ceil(32);
    let group = {
        // Memory for the fewest positions that a batch accepts, too few for the sequence.
        let mut one = model.batch(most(Some(1 << 16)))?;
        match one.add(&prompt, 1, &drafts()) {
            Err(ruminate::Error::KvMemory { positions, needed, .. }) => {
                needed / u64::from((positions + 256).div_ceil(32)).min(positions.into())
            }
            other => anyhow::bail!("{other:?}"),
        }
    };
    let mut tight = model.batch(most(Some(group * (positions + 2))))?;
    let ids: Vec<SequenceId> = (1..3).map(|seed| tight.add(&prompt, seed, &drafts())).collect::<Result<_, _>>()?;
    let mut most_running = 0;
    let mut ended = Vec::new();
    while let Some(event) = tight.wait()? {
        most_running = most_running.max(tight.totals().running);
        if let Event::Done { id, .. } = event {
            ended.push(id);
        }
    }
    ensure!(ended == ids && most_running == 1, "{most_running} were running");
    Ok(())
}

#[trial(device, full)]
fn plans_of_an_ended_sequence_serve_the_next(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let session = SessionOptions { context: Some(256), steps: Some(6), ..SessionOptions::default() };
    let mut batch = model.batch(BatchOptions { session, sequences: 2, ..BatchOptions::default() })?;
    let mut run = |seed: u64| -> Result<(u64, Vec<u32>)> {
        let before = device.counters();
        batch.add(&prompt_of(20), seed, &drafts())?;
        let tokens = only(&mut batch)?.0;
        Ok(((device.counters() - before).bind_groups, tokens))
    };
    let (first, said) = run(1)?;
    let (second, again) = run(1)?;
    ensure!(first > 0 && second == 0, "{second} bind groups were created instead of {first}");
    ensure!(said == again, "{again:?} instead of {said:?}");
    Ok(())
}

#[trial(device)]
fn a_batch_that_was_warmed_up_compiles_nothing(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for options in [greedy(6, 5), drafts(), GenerateOptions { logprobs: Some(2), ..greedy(6, 5) }] {
        let session = SessionOptions { context: Some(256), steps: Some(6), ..SessionOptions::default() };
        let mut batch = model.batch(BatchOptions { session, sequences: 3, ..BatchOptions::default() })?;
        batch.warm_up(40, &options)?;
        let before = device.counters();
        for length in [1, 5, 40] {
            batch.add(&prompt_of(length), 1, &options)?;
        }
        let refused = batch.warm_up(1, &options);
        ensure!(matches!(refused, Err(ruminate::Error::Option { name: "warm_up", .. })), "{refused:?}");
        while batch.wait()?.is_some() {}
        let done = device.counters() - before;
        ensure!(done.pipelines == 0, "{} pipelines were compiled after the warm-up", done.pipelines);
    }
    Ok(())
}

/// A sequence with a pass of thousands of steps does not keep other sequences waiting, and its pages are free once it is cancelled in the middle of the pass.
#[trial(device, full)]
fn deep_passes_do_not_keep_others_waiting(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let session = || SessionOptions { context: Some(128), steps: Some(6), ..SessionOptions::default() };
    let prompt = prompt_of(30);
    let expected = {
        let mut session = model.session(SessionOptions { seed: 7, ..session() })?;
        session.generate(&prompt, &greedy(6, 5))?.map(|piece| Ok(piece?.token)).collect::<Result<Vec<u32>>>()?
    };
    let depth = 20_000;
    let reads_out = Exit { threshold: -1.0, ..Exit::new(Criterion::Kl) };
    let deep = [
        GenerateOptions { pipeline: Some(Pipeline::default()), ..greedy(depth, 2) },
        GenerateOptions { exit: Some(reads_out), ..greedy(depth, 2) },
        GenerateOptions { prompt_logprobs: true, ..greedy(depth, 0) },
    ];
    for options in deep {
        let limits = || BatchOptions { session: session(), sequences: 3, ..BatchOptions::default() };
        let mut batch = model.batch(BatchOptions { kv_memory: Some(8 << 30), ..limits() })?;
        let id = batch.add(&prompt[..4], 1, &options)?;
        for _ in 0..4 {
            ensure!(batch.wait_round()?.is_none(), "{options:?}: an event");
        }
        let before = batch.totals().passes;
        let other = batch.add(&prompt, 7, &greedy(6, 5))?;
        let mut tokens = Vec::new();
        let mut rounds = 0;
        while tokens.len() < 5 {
            rounds += 1;
            ensure!(rounds < 400, "{options:?}: {rounds} rounds without the other's tokens");
            if let Some(Event::Token { id, piece }) = batch.wait_round()? {
                ensure!(id == other, "{options:?}: a token of the deep sequence");
                tokens.push(piece.token);
            }
        }
        ensure!(tokens == expected, "{options:?}: {tokens:?} instead of {expected:?}");
        ensure!(batch.totals().passes - before < u64::from(depth), "{options:?}: a whole deep pass was taken");
        batch.cancel(id)?;
        // The pages of the cancelled sequence go to this one.
        let next = batch.add(&prompt, 7, &greedy(6, 5))?;
        let mut tokens = Vec::new();
        while let Some(event) = batch.wait()? {
            match event {
                Event::Token { id, piece } if id == next => tokens.push(piece.token),
                Event::Done { .. } => {}
                event => anyhow::bail!("{options:?}: {event:?}"),
            }
        }
        ensure!(tokens == expected, "{options:?}: {tokens:?} instead of {expected:?} afterwards");
    }
    Ok(())
}
