//! Early exits, which the device decides: a token that exits takes exactly the reported steps, costs nothing afterwards, and equals the token of a pass with
//! that number of steps.

use anyhow::{Context, Result, ensure};
use ruminate::trace::most_likely;
use ruminate::{
    Continuous, Counters, Criterion, Dtype, Error, Exit, GenerateOptions, KvShare, KvSharing, Lookup, Model, Piece,
    PrefillExit, Sampling, Session, SessionOptions, State, StepsOf,
};
use ruminate_engine::Device;
use ruminate_tests::{compare, demo_model, pieces_of, prompt_of, trial};

use crate::criteria;

fn session(model: &Model) -> Result<Session> {
    Ok(model.session(SessionOptions { kv_dtype: Dtype::F32, ..SessionOptions::default() })?)
}

fn greedy(steps: u32, exit: Option<Exit>) -> GenerateOptions {
    GenerateOptions {
        steps: Some(steps),
        exit,
        max_tokens: Some(6),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    }
}

/// Fails unless the piece is the most likely token.
fn chosen(logits: &[f32], piece: &Piece) -> Result<()> {
    let [best] = most_likely(logits, 1)[..] else { anyhow::bail!("no logits") };
    ensure!(best == piece.token, "{piece:?}, but token {best} is the most likely");
    Ok(())
}

/// An exit with a threshold that no value meets.
fn unmet(criterion: Criterion) -> Exit {
    Exit { threshold: if criterion.at_least() { 1e9 } else { -1.0 }, ..Exit::new(criterion) }
}

#[trial(device, cpu, full)]
fn unmet_criteria_change_no_output(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let expected = session(&model)?.forward(&prompt_of(7), 9, State::Seeded, true)?;
    for criterion in criteria() {
        let exit = Exit { every: 4, min_steps: 1, ..unmet(criterion) };
        let found = session(&model)?.forward_until_exit(&prompt_of(7), 9, &exit, State::Seeded, true)?;
        ensure!(found.steps == [9; 7], "{exit}: {:?}", found.steps);
        compare(&found.logits, &expected, 1e-10).with_context(|| exit.to_string())?;
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn exited_tokens_match_a_pass_of_as_many_steps(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for (criterion, threshold) in
        [(Criterion::LatentDiff, 0.3), (Criterion::Kl, 0.3), (Criterion::ArgmaxStability, 2.0)]
    {
        let exit = Exit { threshold, ..Exit::new(criterion) };
        let mut early = session(&model)?;
        early.forward(&prompt_of(5), 40, State::Seeded, false)?;
        let found = early.forward_until_exit(&[17], 40, &exit, State::Seeded, false)?;
        let [steps] = found.steps[..] else { anyhow::bail!("{:?}", found.steps) };
        ensure!((1..40).contains(&steps), "{exit}: {steps} steps");
        let [values] = &found.values[..] else { anyhow::bail!("{} lists of values", found.values.len()) };
        ensure!(values.len() == steps as usize, "{exit}: {} checks in {steps} steps", values.len());
        let met = |value: f32| if criterion.at_least() { value >= threshold } else { value < threshold };
        let last = values.iter().position(|&value| met(value));
        ensure!(last == Some(values.len() - 1), "{exit}: {values:?}");

        let mut fixed = session(&model)?;
        fixed.forward(&prompt_of(5), 40, State::Seeded, false)?;
        compare(&found.logits, &fixed.forward(&[17], steps, State::Seeded, false)?, 1e-10)?;
        // The next token sees the same keys and values.
        let next = [early.forward(&[4], 12, State::Seeded, false)?, fixed.forward(&[4], 12, State::Seeded, false)?];
        compare(&next[0], &next[1], 1e-10)?;
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn checks_start_after_min_steps_and_repeat_every_interval(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for criterion in [Criterion::LatentDiff, Criterion::EntropyDiff] {
        // The first check always fires.
        let always = Exit { threshold: 1e9, ..Exit::new(criterion) };
        for (min_steps, steps, expected) in [(0, 20, 1), (5, 20, 6), (30, 20, 20), (19, 20, 20)] {
            let exit = Exit { min_steps, every: 3, ..always };
            let found = session(&model)?.forward_until_exit(&[7], steps, &exit, State::Seeded, false)?;
            ensure!(found.steps == [expected], "{exit}, {min_steps}: {:?}", found.steps);
        }
        for (every, steps, checks) in [(1, 10, 10), (3, 10, 4), (3, 9, 3), (10, 10, 1), (11, 10, 1)] {
            let exit = Exit { every, ..unmet(criterion) };
            let found = session(&model)?.forward_until_exit(&[7], steps, &exit, State::Seeded, false)?;
            ensure!(found.steps == [steps] && found.values[0].len() == checks, "{exit}, every {every}: {found:?}");
        }
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn prompt_rows_exit_independently(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let exit = Exit { threshold: 0.2, ..Exit::new(Criterion::LatentDiff) };
    let tokens = prompt_of(30);
    let together = session(&model)?.forward_until_exit(&tokens, 50, &exit, State::Seeded, true)?;
    let mut single = session(&model)?;
    let (mut logits, mut steps) = (Vec::new(), Vec::new());
    for token in &tokens {
        let found = single.forward_until_exit(&[*token], 50, &exit, State::Seeded, true)?;
        logits.extend(found.logits);
        steps.extend(found.steps);
    }
    ensure!(together.steps == steps, "{:?} together, {steps:?} one by one", together.steps);
    ensure!(steps.iter().min() < steps.iter().max(), "all rows exit at the same step: {steps:?}");
    compare(&together.logits, &logits, 1e-8)?;

    let all = Exit { prefill: PrefillExit::Together, ..exit };
    let found = session(&model)?.forward_until_exit(&tokens, 50, &all, State::Seeded, false)?;
    ensure!(found.steps.iter().all(|&steps| steps == found.steps[0] && steps < 50), "{:?}", found.steps);
    let none = Exit { prefill: PrefillExit::Never, ..exit };
    let found = session(&model)?.forward_until_exit(&tokens, 50, &none, State::Seeded, false)?;
    ensure!(found.steps.is_empty(), "{:?}", found.steps);
    Ok(())
}

#[trial(device, cpu)]
fn generation_takes_same_steps_as_single_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for criterion in [Criterion::Cosine, Criterion::MinPKl] {
        let exit = Exit { threshold: 0.05, ..Exit::new(criterion) };
        let found = pieces_of(&mut session(&model)?, &prompt_of(9), &greedy(30, Some(exit)))?;
        let mut single = session(&model)?;
        let mut input = prompt_of(9);
        for piece in &found {
            let pass = single.forward_until_exit(&input, 30, &exit, State::Seeded, false)?;
            ensure!(pass.steps.last() == Some(&piece.steps), "{exit}: {piece:?}, in a single pass {:?}", pass.steps);
            chosen(&pass.logits, piece).with_context(|| exit.to_string())?;
            input = vec![piece.token];
        }
        ensure!(found.iter().any(|piece| piece.steps < 30), "{exit}: {found:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn early_exits_wait_only_for_the_token(device: &Device) -> Result<()> {
    // A device of its own, so that the counters count this trial only.
    let device = &if device.is_cpu() { Device::cpu() } else { ruminate_tests::device().unwrap_or_else(Device::cpu) };
    let model = demo_model(device)?;
    for criterion in [Criterion::LatentDiff, Criterion::Kl] {
        let mut session = session(&model)?;
        let options = GenerateOptions { max_tokens: Some(12), ..greedy(64, Some(Exit::new(criterion))) };
        let tokens = prompt_of(9);
        let mut generation = session.generate(tokens.as_slice(), &options)?;
        // The first tokens record the plans and fill the ring of staging buffers.
        for _ in 0..4 {
            generation.next().transpose()?;
        }
        let before = device.counters();
        for _ in 0..4 {
            generation.next().transpose()?;
        }
        let Counters { waits, read_backs, pipelines, buffers, bind_groups, .. } = device.counters() - before;
        ensure!(read_backs == 4 || device.is_cpu(), "{read_backs} read-backs for 4 tokens");
        ensure!(waits <= 4, "{waits} waits for 4 tokens");
        ensure!(pipelines + buffers + bind_groups == 0, "created {pipelines}, {buffers}, {bind_groups}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn steps_can_vary_per_token(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let options = GenerateOptions { steps_of: Some(StepsOf::new(|token| 2 + 5 * token)), ..greedy(4, None) };
    let found = pieces_of(&mut session(&model)?, &prompt_of(5), &options)?;
    let steps: Vec<u32> = found.iter().map(|piece| piece.steps).collect();
    ensure!(steps == [4, 7, 12, 17, 22, 27], "{steps:?}");
    let mut single = session(&model)?;
    let mut input = prompt_of(5);
    for piece in found {
        let logits = single.forward(&input, piece.steps, State::Seeded, false)?;
        chosen(&logits, &piece)?;
        input = vec![piece.token];
    }
    let none = GenerateOptions { steps_of: Some(StepsOf::new(|_| 0)), ..greedy(4, None) };
    let failed = pieces_of(&mut session(&model)?, &prompt_of(5), &none);
    ensure!(failed.is_err(), "0 steps were accepted");
    Ok(())
}

#[trial(device, cpu, full)]
fn carried_state_is_last_state_of_previous_token(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let session =
        |invariant| model.session(SessionOptions { invariant, kv_dtype: Dtype::F32, ..SessionOptions::default() });
    let leaves = Some(Exit { threshold: 0.2, ..Exit::new(Criterion::LatentDiff) });
    for (exit, invariant) in [(None, false), (None, true), (leaves, false), (leaves, true)] {
        let options = GenerateOptions { continuous: Some(Continuous::Raw), ..greedy(9, exit) };
        let found = pieces_of(&mut session(invariant)?, &prompt_of(5), &options)?;
        let mut single = session(invariant)?;
        let (mut input, mut state) = (prompt_of(5), State::Seeded);
        for piece in &found {
            let logits = match &exit {
                None => single.forward(&input, 9, state, false)?,
                Some(exit) => single.forward_until_exit(&input, 9, exit, state, false)?.logits,
            };
            chosen(&logits, piece)?;
            (input, state) = (vec![piece.token], State::Carried);
        }
        let fresh = single.forward(&[1], 3, State::Seeded, false)?;
        single.rewind(single.position() - 1)?;
        let from_last = single.forward(&[1], 3, State::Carried, false)?;
        ensure!(fresh != from_last, "the state was not carried");
    }
    ensure!(
        session(false)?.forward(&[1], 3, State::Carried, false).is_err(),
        "a carried state was accepted before the first pass"
    );
    Ok(())
}

/// Compares with passes that begin with the latents of the previous one.
#[trial(device, cpu, full)]
fn normed_state_is_latents_of_previous_token(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let options = GenerateOptions { continuous: Some(Continuous::Normed), ..greedy(3, None) };
    let found = pieces_of(&mut session(&model)?, &prompt_of(5), &options)?;
    let (n, vocab) = (model.spec().width as usize, model.spec().padded_vocab as usize);
    let mut single = session(&model)?;
    let (mut input, mut latents) = (prompt_of(5), Vec::new());
    for piece in &found {
        single.begin(&input, 3, if latents.is_empty() { State::Seeded } else { State::Given(&latents) })?;
        single.iterate(3)?;
        let read = single.read_out()?;
        chosen(&read.logits[read.logits.len() - vocab..], piece)?;
        (input, latents) = (vec![piece.token], read.latents[read.latents.len() - n..].to_vec());
    }
    Ok(())
}

/// Passes run ahead of the tokens that the caller takes; the state of such a pass must not be carried.
#[trial(device, cpu, full)]
fn state_of_untaken_token_is_not_carried(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut session = session(&model)?;
    let tokens = prompt_of(5);
    let mut generation = session.generate(tokens.as_slice(), &greedy(3, None))?;
    generation.next().transpose()?;
    drop(generation);
    let refused = session.forward(&[1], 3, State::Carried, false);
    ensure!(matches!(refused, Err(Error::Option { name: "state", .. })), "{refused:?}");
    // After the caller's own pass its state can be carried again.
    session.forward(&[1], 3, State::Seeded, false)?;
    session.forward(&[2], 3, State::Carried, false)?;
    Ok(())
}

#[trial(device, cpu, full)]
fn shared_kv_saves_memory_and_barely_changes_logits(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let own = |share| {
        let options = SessionOptions { kv_dtype: Dtype::F32, share, context: Some(128), ..SessionOptions::default() };
        Ok::<_, anyhow::Error>(model.session(options)?)
    };
    let mut logits = Vec::new();
    let mut bytes = Vec::new();
    for share in [KvShare::None, KvShare::Anchor, KvShare::Steps(4), KvShare::Steps(1)] {
        let mut session = own(share)?;
        logits.push(session.forward(&prompt_of(100), 32, State::Seeded, false)?);
        bytes.push(session.kv_bytes());
    }
    ensure!(bytes.is_sorted_by(|a, b| a > b), "{bytes:?} bytes");
    // States have converged by the last steps, so it hardly matters which step's keys and values are kept.
    compare(&logits[1], &logits[0], 1e-3)?;
    compare(&logits[2], &logits[0], 1e-3)?;
    // With at most as many steps as slots, no step shares its slot.
    let few = |share| own(share)?.forward(&prompt_of(40), 4, State::Seeded, false).map_err(anyhow::Error::from);
    compare(&few(KvShare::Steps(4))?, &few(KvShare::None)?, 1e-12)?;
    ensure!(own(KvShare::Steps(0)).is_err(), "`Steps(0)` was accepted");
    Ok(())
}

#[trial]
fn authors_criterion_names_parse_or_explain_refusal() -> Result<()> {
    let parsed = |name: &str| KvSharing::parse(name, 4);
    let kv_sharing = |lookup, share| KvSharing { lookup, share };
    let (full, latest) = (Lookup::Full, Lookup::Latest);
    for (name, expected) in [
        ("full", kv_sharing(full, KvShare::None)),
        ("skip", kv_sharing(full, KvShare::None)),
        ("latest", kv_sharing(latest, KvShare::None)),
        ("available-m4", kv_sharing(latest, KvShare::None)),
        ("always-last-m4", kv_sharing(Lookup::AlwaysLast, KvShare::None)),
        ("compress-s4", kv_sharing(latest, KvShare::Steps(1))),
        ("latest-m4-compress-s16", kv_sharing(latest, KvShare::Steps(4))),
        ("full-compress-anchor", kv_sharing(full, KvShare::Anchor)),
    ] {
        ensure!(parsed(name)? == expected, "{name}: {:?}", parsed(name));
    }
    for (name, reason) in [
        ("compress-r4", "overwrite"),
        ("compress-s6", "multiple"),
        ("latest-m3", "layers"),
        ("randomized", "latest"),
        ("compress-", "compress-sN"),
        ("", "latest"),
    ] {
        let error = parsed(name).err().with_context(|| format!("{name:?} was accepted"))?;
        ensure!(error.to_string().contains(reason), "{name}: {error}");
    }
    Ok(())
}
