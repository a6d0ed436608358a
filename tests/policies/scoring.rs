//! Scores of continuations: in a batch of any lengths each score is that of the continuation alone.

use anyhow::{Result, ensure};
use ruminate::{
    Continuation, Criterion, Exit, KvShare, Likelihood, LikelihoodOptions, Model, SessionOptions, State, statistics,
};
use ruminate_engine::Device;
use ruminate_shaders::Noise;
use ruminate_tests::{demo_model, trial};

const STEPS: u32 = 6;

fn session() -> SessionOptions {
    SessionOptions { seed: 3, context: Some(400), ..SessionOptions::default() }
}

fn options() -> LikelihoodOptions {
    LikelihoodOptions { steps: Some(STEPS), session: session(), ..LikelihoodOptions::default() }
}

fn random(seed: u64, most: u32) -> Continuation {
    let mut noise = Noise::new(seed);
    let mut tokens = |most: u32| (0..1 + noise.below(most)).map(|_| noise.below(400)).collect();
    Continuation { context: tokens(most), continuation: tokens(6) }
}

fn score(model: &Model, all: &[Continuation], options: &LikelihoodOptions) -> Result<Vec<Likelihood>> {
    Ok(model.likelihoods(all, options, &mut |_| true)?)
}

/// The score by passes over a single sequence, token by token if there is an exit rule.
fn by_itself(model: &Model, item: &Continuation, exit: Option<&Exit>, share: KvShare) -> Result<Likelihood> {
    let vocab = model.spec().padded_vocab as usize;
    let mut session = model.session(SessionOptions { share, ..session() })?;
    let tokens = [&item.context[..], &item.continuation].concat();
    let asked = &tokens[..tokens.len() - 1];
    let mut found = Likelihood { greedy: true, tokens: item.continuation.len() as u32, ..Likelihood::default() };
    let mut logits = Vec::new();
    let mut steps = Vec::new();
    if share != KvShare::None {
        logits.resize((item.context.len() - 1) * vocab, 0.0);
        let (context, rest) = asked.split_at(item.context.len());
        logits.extend(session.forward(context, STEPS, State::Seeded, false)?);
        for token in rest.chunks(1) {
            logits.extend(session.forward(token, STEPS, State::Seeded, true)?);
        }
    } else if let Some(exit) = exit {
        for token in asked.chunks(1) {
            let one = session.forward_until_exit(token, STEPS, exit, State::Seeded, true)?;
            logits.extend(one.logits);
            steps.extend(one.steps);
        }
    } else {
        logits = session.forward(asked, STEPS, State::Seeded, true)?;
    }
    for (row, &answer) in (item.context.len() - 1..).zip(&item.continuation) {
        let logits = &logits[row * vocab..][..vocab];
        let top = logits.iter().copied().fold(f32::MIN, f32::max);
        found.logprob += f64::from(statistics::log_probability(logits, answer as usize));
        found.greedy &= logits[answer as usize] == top;
        found.steps += u64::from(steps.get(row).copied().unwrap_or(STEPS));
    }
    Ok(found)
}

fn compare(found: &Likelihood, expected: &Likelihood, what: &Continuation) -> Result<()> {
    let near = (found.logprob - expected.logprob).abs() < 2e-3 * expected.logprob.abs().max(1.0);
    let same = (found.greedy, found.tokens, found.steps) == (expected.greedy, expected.tokens, expected.steps);
    ensure!(near && same, "{found:?} instead of {expected:?} for {what:?}");
    Ok(())
}

#[trial(device, cpu)]
fn batched_scores_match_single_sequences(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut all: Vec<Continuation> = (0..12).map(|seed| random(seed, 40)).collect();
    // Add a context longer than a pass and a continuation of the most likely token.
    all.push(Continuation { context: (0..300).map(|i| i % 400).collect(), continuation: vec![5, 6] });
    let mut likely = random(50, 9);
    let logits = model.session(session())?.forward(&likely.context, STEPS, State::Seeded, false)?;
    let top = (0..).zip(&logits).fold((0, f32::MIN), |best, (i, &x)| if x > best.1 { (i, x) } else { best }).0;
    likely.continuation = vec![top];
    all.push(likely);
    let found = score(&model, &all, &options())?;
    for (found, item) in found.iter().zip(&all) {
        compare(found, &by_itself(&model, item, None, KvShare::None)?, item)?;
    }
    ensure!(found.last().is_some_and(|found| found.greedy) && found.len() == all.len(), "{found:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn invariant_scores_do_not_depend_on_batch(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all: Vec<Continuation> = (20..28).map(|seed| random(seed, 12)).collect();
    let session = SessionOptions { invariant: true, context: Some(40), ..session() };
    let together = LikelihoodOptions { session, sequences: 5, ..options() };
    let one_by_one = LikelihoodOptions { sequences: 1, ..together.clone() };
    let (found, expected) = (score(&model, &all, &together)?, score(&model, &all, &one_by_one)?);
    // Further sequences in the cache take no part in a sum.
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn early_exits_in_scoring_match_single_sequences(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all: Vec<Continuation> = (30..36).map(|seed| random(seed, 12)).collect();
    for exit in [Exit { threshold: 0.15, ..Exit::new(Criterion::LatentDiff) }, Exit::new(Criterion::Kl)] {
        let found = score(&model, &all, &LikelihoodOptions { exit: Some(exit), ..options() })?;
        for (found, item) in found.iter().zip(&all) {
            compare(found, &by_itself(&model, item, Some(&exit), KvShare::None)?, item)?;
        }
        let most = u64::from(STEPS) * found.iter().map(|it| u64::from(it.tokens)).sum::<u64>();
        ensure!(found.iter().map(|it| it.steps).sum::<u64>() < most, "no row exits early by {exit}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn shared_kv_scores_match_decoding(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all: Vec<Continuation> = (40..44).map(|seed| random(seed, 12)).collect();
    let share = KvShare::Steps(2);
    let found =
        score(&model, &all, &LikelihoodOptions { session: SessionOptions { share, ..session() }, ..options() })?;
    for (found, item) in found.iter().zip(&all) {
        compare(found, &by_itself(&model, item, None, share)?, item)?;
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn encoding_does_not_depend_on_side_of_blank(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let tokenizer = model.tokenizer();
    let (one, other) =
        (Continuation::encode(tokenizer, "Swap AB", " CD")?, Continuation::encode(tokenizer, "Swap AB ", "CD")?);
    ensure!(one == other, "{one:?} differs from {other:?}");
    for (context, continuation) in [("Swap", ""), ("", "")] {
        let wrong = Continuation::encode(tokenizer, context, continuation);
        ensure!(wrong.is_err(), "{wrong:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn invalid_requests_are_refused(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let item = |context: &[u32], continuation: &[u32]| Continuation {
        context: context.to_vec(),
        continuation: continuation.to_vec(),
    };
    let cases = [
        (item(&[], &[1]), options(), "empty"),
        (item(&[1], &[]), options(), "empty"),
        (item(&[1; 400], &[1, 2]), options(), "401 tokens"),
        (item(&[1], &[99_999]), options(), "99999"),
        (item(&[1], &[1]), LikelihoodOptions { sequences: 0, ..options() }, "sequences"),
        (item(&[1], &[1]), LikelihoodOptions { steps: Some(0), ..options() }, "steps"),
    ];
    for (item, options, part) in cases {
        let message = model.likelihoods(&[item], &options, &mut |_| true).err().map(|error| error.to_string());
        ensure!(message.as_deref().is_some_and(|text| text.contains(part)), "{part}: {message:?}");
    }
    ensure!(score(&model, &[], &options())?.is_empty(), "scores without continuations");
    Ok(())
}
