//! Noise between the steps: a generation computes what single steps compute when the CPU reference adds the noise to the states in between.

use anyhow::{Context, Result, bail, ensure};
use ruminate::{
    Checkpoint, Counters, Criterion, Dtype, Exit, GenerateOptions, KvShare, Lookup, Noise, NoiseKind, Piece, Pipeline,
    Sampling, SessionOptions, Spec, Speculate, State, demo,
};
use ruminate_engine::Device;
use ruminate_shaders::recur::{NOISE, NoiseRule, SequenceNoise, noise};
use ruminate_shaders::{Caps, Row, Sequence, Slot, Slots, stride};
use ruminate_tests::{demo_model, pieces_of, prompt_of, trial};

use crate::criteria;

const SEED: u64 = 0x1234_5678_9abc;

fn settings() -> SessionOptions {
    SessionOptions { kv_dtype: Dtype::F32, seed: SEED, ..SessionOptions::default() }
}

fn asked(steps: u32, tokens: u32, noise: Option<Noise>) -> GenerateOptions {
    GenerateOptions {
        steps: Some(steps),
        max_tokens: Some(tokens),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        logprobs: Some(20),
        noise,
        ..GenerateOptions::default()
    }
}

/// Fails unless both have the same tokens with the same log-probabilities.
fn same(found: &[Piece], expected: &[Piece]) -> Result<()> {
    ensure!(found.len() == expected.len(), "{} tokens, expected {}", found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        ensure!(found.token == expected.token, "{found:?}, expected {expected:?}");
        for (a, b) in found.top.iter().zip(&expected.top) {
            ensure!((a.1 - b.1).abs() < 2e-3, "{found:?}, expected {expected:?}");
        }
    }
    Ok(())
}

/// Whether any log-probability differs by more than rounding explains.
fn differ(a: &[Piece], b: &[Piece]) -> bool {
    a.iter().zip(b).any(|(a, b)| a.top.iter().zip(&b.top).any(|(a, b)| a.0 != b.0 || (a.1 - b.1).abs() > 0.02))
}

/// A state with the noise that the CPU reference adds before a step.
fn stirred(state: &[f32], step: u32, (rule, eps): (NoiseRule, f32), w: &[f32]) -> Vec<f32> {
    let n = state.len() as u32;
    let launch = noise(&Caps::default(), 1, 1, n, eps);
    let entry = SequenceNoise::from(rule);
    let row = Row { step, ..Row::new(0, 0, 0) };
    let sequence = Sequence {
        seed: [SEED as u32, (SEED >> 32) as u32],
        state_seed: [0; 2],
        state_std: 0.0,
        steps: 0,
        reserved: [0; 2],
    };
    let padded = |values: &[f32]| {
        let mut values: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        values.resize(stride(n) as usize, 0);
        values
    };
    let (w, mut state) = (padded(w), padded(state));
    let slots = vec![
        Slot::Read(bytemuck::cast_slice(std::slice::from_ref(&row))),
        Slot::Read(bytemuck::cast_slice(std::slice::from_ref(&sequence))),
        Slot::Read(bytemuck::cast_slice(std::slice::from_ref(&entry))),
        Slot::Read(&w),
        Slot::Write(&mut state),
    ];
    (NOISE.reference)(&launch, Slots::new(slots));
    state[..n as usize].iter().map(|&bits| f32::from_bits(bits)).collect()
}

/// The weights of the core block's last norm, from the checkpoint.
fn last_norm(config: &Spec) -> Result<Vec<f32>> {
    let name = format!("transformer.core_block.{}.norm_4.weight", config.layers.core - 1);
    let checkpoint = Checkpoint::open(&demo::source(), &|_| false)?;
    let mut values = vec![0.0; config.width as usize];
    checkpoint.required(&name)?.decode(0, &mut values)?;
    Ok(values)
}

#[trial(device, cpu, full)]
fn noisy_generation_matches_single_steps_from_noisy_states(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let config = model.spec();
    let w = last_norm(config)?;
    let steps = 4;
    let amount = (0.4 * config.state_std()) as f32;
    for (kind, renorm) in NoiseKind::ALL.into_iter().flat_map(|kind| [(kind, true), (kind, false)]) {
        let asked = asked(steps, 1, Some(Noise { renorm, ..Noise::new(kind, 0.4) }));
        let found = pieces_of(&mut model.session(settings())?, &[17], &asked)?;
        let rule = NoiseRule { kind, amount, steps: config.steps.default, renorm };
        let mut session = model.session(settings())?;
        session.begin(&[17], 1, State::Seeded)?;
        let mut state = session.states()?;
        let mut logits = Vec::new();
        // A token at the first position attends only to its own step.
        for step in 0..steps {
            session.rewind(0)?;
            session.begin(&[17], 1, State::Given(&stirred(&state, step, (rule, config.norm_eps as f32), &w)))?;
            session.iterate(1)?;
            state = session.states()?;
            logits = session.read_out()?.logits;
        }
        let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
        let total = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum::<f64>().ln();
        for &(token, logprob) in &found[0].top {
            let expected = f64::from(logits[token as usize]) - largest - total;
            let name = kind.name();
            ensure!((f64::from(logprob) - expected).abs() < 5e-3, "{name}, {renorm}: {logprob}, expected {expected}");
        }
    }
    Ok(())
}

#[trial(device, cpu)]
fn noise_depends_only_on_seed_position_and_step(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    // The prompt is longer than a pass.
    let prompt = prompt_of(262);
    let asked = asked(3, 4, Some(Noise::new(NoiseKind::Geom, 0.5)));
    let whole = pieces_of(&mut model.session(settings())?, &prompt, &asked)?;
    let mut session = model.session(settings())?;
    for part in [&prompt[..9], &prompt[9..100]] {
        pieces_of(&mut session, part, &GenerateOptions { max_tokens: Some(0), ..asked.clone() })?;
    }
    same(&pieces_of(&mut session, &prompt[100..], &asked)?, &whole)?;
    let other = SessionOptions { seed: SEED + 1, init_scale: 0.0, ..settings() };
    let zeros = SessionOptions { init_scale: 0.0, ..settings() };
    let (first, second) = (
        pieces_of(&mut model.session(other)?, &prompt[..9], &asked)?,
        pieces_of(&mut model.session(zeros)?, &prompt[..9], &asked)?,
    );
    ensure!(differ(&first, &second), "the seed makes no difference");
    let quiet = GenerateOptions { noise: None, ..asked };
    ensure!(
        differ(&pieces_of(&mut model.session(settings())?, &prompt, &quiet)?, &whole),
        "the noise makes no difference"
    );
    Ok(())
}

#[trial(device, cpu, full)]
fn noise_combines_with_exits_and_every_cache(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (prompt, noise) = (prompt_of(9), Some(Noise::new(NoiseKind::Sqrt, 0.2)));
    let plain = pieces_of(&mut model.session(settings())?, &prompt, &asked(9, 4, noise))?;
    for criterion in criteria() {
        let threshold = if criterion.at_least() { 1e9 } else { -1.0 };
        let exit = Some(Exit { threshold, every: 4, min_steps: 1, ..Exit::new(criterion) });
        let options = GenerateOptions { exit, ..asked(9, 4, noise) };
        let found = pieces_of(&mut model.session(settings())?, &prompt, &options)?;
        same(&found, &plain).with_context(|| criterion.name())?;
    }
    // Rows that exit at once take one step, with the noise of that step.
    let exit = Some(Exit { threshold: 1e9, ..Exit::new(Criterion::LatentDiff) });
    let options = GenerateOptions { exit, ..asked(9, 4, noise) };
    let found = pieces_of(&mut model.session(settings())?, &prompt, &options)?;
    same(&found, &pieces_of(&mut model.session(settings())?, &prompt, &asked(1, 4, noise))?).context("one step")?;
    ensure!(found.iter().all(|piece| piece.steps == 1), "{found:?}");
    // Rows of a pass can be at different steps; each gets the noise of its step.
    let fixed = || model.session(SessionOptions { invariant: true, ..settings() });
    let plain = asked(9, 10, noise);
    let expected = pieces_of(&mut fixed()?, &prompt, &plain)?;
    let drafts = Some(Speculate { draft_steps: Some(2), draft_len: 3, threshold: 1.0 });
    for ahead in [
        GenerateOptions { speculate: drafts, ..plain.clone() },
        GenerateOptions { pipeline: Some(Pipeline { every: Some(3) }), ..plain.clone() },
    ] {
        same(&pieces_of(&mut fixed()?, &prompt, &ahead)?, &expected).context("ahead")?;
    }
    let others =
        [(Lookup::AlwaysLast, KvShare::None), (Lookup::Latest, KvShare::Steps(2)), (Lookup::Full, KvShare::Anchor)];
    for (lookup, share) in others {
        let session = || model.session(SessionOptions { lookup, share, ..settings() });
        let once = pieces_of(&mut session()?, &prompt, &asked(9, 4, noise))?;
        same(&pieces_of(&mut session()?, &prompt, &asked(9, 4, noise))?, &once)?;
        ensure!(once.iter().all(|piece| piece.logprob.is_some_and(f32::is_finite)), "{once:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn noise_costs_a_launch_per_step_and_no_wait(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let launches = |noise| {
        let (mut session, prompt) = (model.session(settings())?, prompt_of(9));
        let mut generation = session.generate(&prompt[..], &asked(7, 10, noise))?;
        for _ in 0..4 {
            generation.next().transpose()?;
        }
        let before = device.counters();
        for _ in 0..4 {
            generation.next().transpose()?;
        }
        let Counters { waits, launches, pipelines, buffers, bind_groups, .. } = device.counters() - before;
        ensure!(waits <= 4, "{waits} waits for 4 tokens");
        ensure!(pipelines + buffers + bind_groups == 0, "created {pipelines}, {buffers}, {bind_groups}");
        Ok::<_, anyhow::Error>(launches)
    };
    let (quiet, stirred) = (launches(None)?, launches(Some(Noise::new(NoiseKind::Chi, 0.1)))?);
    ensure!(stirred == quiet + 4 * 7, "{stirred} launches for 4 tokens of 7 steps, {quiet} without noise");
    Ok(())
}

#[trial(device, cpu, full)]
fn invalid_noise_is_refused_with_allowed_values(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let cases = [
        (Noise::new(NoiseKind::Fixed, 0.0), "noise is fixed=0; above 0"),
        (Noise::new(NoiseKind::Line, f32::NAN), "noise is line=NaN; above 0"),
        (Noise { renorm: false, ..Noise::new(NoiseKind::Geom, 50.0) }, "noise is geom=50,raw; all of the state"),
        (Noise::new(NoiseKind::Chi, 0.9), "noise is chi=0.9; half of the state"),
    ];
    for (noise, expected) in cases {
        let mut session = model.session(settings())?;
        let Err(error) = pieces_of(&mut session, &prompt_of(3), &asked(1, 1, Some(noise))) else {
            bail!("{expected}: accepted")
        };
        let text = error.to_string();
        ensure!(expected.split("; ").all(|part| text.contains(part)), "{text:?} does not contain {expected:?}");
    }
    for (written, expected) in
        [("geom=0.1", "geom=0.1"), ("fixed=0.05,renorm", "fixed=0.05"), ("chi=1e-3,raw", "chi=0.001,raw")]
    {
        let noise: Noise = written.parse().map_err(anyhow::Error::msg)?;
        ensure!(noise.to_string() == expected, "{written} was parsed as {noise}");
    }
    for (written, expected) in [
        ("geom", "geom=0.1"),
        ("pink=0.1", "fixed, geom, sqrt, line, chi"),
        ("geom=", "invalid scale"),
        ("geom=-1", "above 0"),
        ("geom=inf", "invalid scale"),
        ("line=0.1,normed", "expected renorm"),
    ] {
        let error = written.parse::<Noise>().err().context("it was accepted")?;
        ensure!(error.contains(expected), "{written}: {error}");
    }
    Ok(())
}
