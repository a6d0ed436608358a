//! Errors of embedding apps: each has the right variant and leaves running work intact.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ruminate::{
    Batch, BatchOptions, Device, Error, Event, GenerateOptions, LoadOptions, Model, Progress, Sampling, Session,
    SessionOptions, State, StopReason, demo, engine,
};
use ruminate_tests::{Host, greedy, options, trial};

const BUDGET: Duration = Duration::from_millis(2);
const TOKENS: [u32; 5] = [7, 30, 120, 9, 255];

fn session(device: &Device) -> Result<Session> {
    Ok(Model::demo(device, LoadOptions::default())?.session(SessionOptions::default())?)
}

fn batch(device: &Device) -> Result<Batch> {
    Ok(Model::demo(device, LoadOptions::default())?.batch(BatchOptions::default())?)
}

fn lost<T>(what: &str, outcome: Result<T, Error>) -> Result<()> {
    match outcome {
        Err(Error::Engine(engine::Error::Lost(_))) => Ok(()),
        Err(error) => anyhow::bail!("{what}: {error}"),
        Ok(_) => anyhow::bail!("{what} works on a lost device"),
    }
}

#[trial(device)]
fn every_call_reports_lost_host_device(_: &Device) -> Result<()> {
    let host = Host::open(&options().context("no device")?)?;
    let device = host.engine()?;
    let (prompt, _) = demo::PROMPTS[0];
    let (mut session, mut batch) = (session(&device)?, batch(&device)?);
    session.start(prompt, &greedy(4, 50))?;
    while !matches!(session.step(BUDGET)?, Progress::Token(_)) {}
    batch.add(prompt, 1, &greedy(4, 50))?;
    batch.wait()?.context("a token")?;
    for _ in 0..100 {
        device.check()?;
    }
    host.device.destroy();
    for _ in 0..2 {
        lost("step", session.step(BUDGET))?;
        lost("check", device.check().map_err(Error::from))?;
        lost("batch", batch.wait())?;
    }
    for _ in 0..2 {
        lost("generate", session.generate(prompt, &greedy(4, 5)).map(drop))?;
        lost("start", session.start(prompt, &greedy(4, 5)))?;
        lost("forward", session.forward(&TOKENS, 4, State::Seeded, false))?;
        lost("begin", session.begin(&TOKENS, 4, State::Seeded))?;
        lost("profile", session.profile(4, Sampling::GREEDY))?;
    }
    lost("load", Model::demo(&device, LoadOptions::default()).map(drop))?;
    Ok(())
}

#[trial(device, cpu)]
fn batch_refuses_sequences_of_another_batch(device: &Device) -> Result<()> {
    let (mut one, mut other) = (batch(device)?, batch(device)?);
    let (mine, theirs) = (one.add(&TOKENS, 1, &greedy(2, 3))?, other.add(&TOKENS, 1, &greedy(2, 3))?);
    ensure!(mine != theirs, "{mine} and {theirs} are equal");
    let refused = one.cancel(theirs);
    ensure!(matches!(refused, Err(Error::Option { name: "sequence", .. })), "{refused:?}");
    let (mut tokens, mut done) = (0, 0);
    while let Some(event) = one.wait()? {
        match event {
            Event::Token { id, .. } if id == mine => tokens += 1,
            Event::Done { id, .. } if id == mine => done += 1,
            event => anyhow::bail!("{event:?}"),
        }
    }
    ensure!((tokens, done) == (3, 1), "{tokens} tokens, {done} end events");
    // A batch can cancel its own sequences, ended ones too.
    one.cancel(mine)?;
    other.cancel(theirs)?;
    let event = other.wait()?.context("an end")?;
    ensure!(matches!(event, Event::Done { id, reason: StopReason::Cancelled, .. } if id == theirs), "{event:?}");
    ensure!(other.wait()?.is_none(), "a cancelled sequence continues");
    Ok(())
}

#[trial(device, cpu)]
fn traced_intermediates_have_module_widths(device: &Device) -> Result<()> {
    let mut session = session(device)?;
    ensure!(matches!(session.trace("adapter"), Err(Error::NotBegun)), "a trace before `begin` was accepted");
    let config = session.model().spec().clone();
    let rows = TOKENS.len();
    session.begin(&TOKENS, 4, State::Seeded)?;
    // Names that are not computed yet or unknown: both errors list the available ones.
    for name in ["adapter", "ln_f", "core_block.0", "core_block.0.attn.parts", "prelude.9", "nonsense"] {
        let error = session.trace(name).err().with_context(|| format!("{name} is available"))?;
        let Error::Intermediate { name: named, known } = &error else { anyhow::bail!("{name}: {error}") };
        ensure!(named == name && known.iter().any(|known| known == "prelude.0.norm_1"), "{error}");
        ensure!(!known.iter().any(|known| known.starts_with("coda")), "{error}");
        ensure!(known.iter().all(|name| session.trace(name).is_ok()), "{error}");
    }
    session.iterate(4)?;
    let outputs = session.read_out()?;
    for (name, width) in [
        ("prelude.0.attn.q_rope", config.heads * config.head_dim),
        ("core_block.0.attn.Wqkv", config.qkv_rows()),
        ("core_block.0.mlp.fc", 2 * config.hidden),
        ("core_block.0.mlp.hidden", config.hidden),
        ("adapter", config.width),
        ("head", config.width),
    ] {
        let found = session.trace(name)?.len();
        ensure!(found == rows * width as usize, "{name} has {found} values");
    }
    let last = format!("core_block.{}", config.layers.core - 1);
    ensure!(session.trace(&last)? == session.states()? && session.trace("ln_f")? == outputs.latents);
    let statistics = outputs.statistics();
    ensure!(statistics.len() == rows && statistics.iter().all(|row| row.entropy.is_finite()), "{statistics:?}");
    let empty = ruminate::Outputs { rows: 0, logits: Vec::new(), latents: Vec::new(), head: Vec::new() };
    ensure!(empty.statistics().is_empty());
    // A later `begin` discards the outputs of earlier rows.
    session.begin(&TOKENS, 4, State::Seeded)?;
    ensure!(
        matches!(session.trace("adapter"), Err(Error::Intermediate { .. })),
        "the adapter's output of earlier rows is available"
    );
    Ok(())
}

#[trial(device)]
fn bounded_steps_measure_host_time(device: &Device) -> Result<()> {
    let mut session = session(device)?;
    session.start(demo::PROMPTS[0].0, &greedy(4, 3))?;
    while !matches!(session.step(BUDGET)?, Progress::Done(_)) {}
    let time = session.statistics().context("statistics")?.host_time;
    ensure!(time > Duration::ZERO, "{time:?}");
    Ok(())
}

/// Division by a subnormal number would make all logits above one as large as a number can be.
#[trial(device, cpu)]
fn tiny_temperatures_are_greedy(device: &Device) -> Result<()> {
    let tokens = |temperature: f32| -> Result<Vec<u32>> {
        let mut session = session(device)?;
        let sampling = Sampling { temperature, ..Sampling::GREEDY };
        let options = GenerateOptions { sampling, ..greedy(4, 6) };
        let pieces = session.generate(demo::PROMPTS[0].0, &options)?;
        Ok(pieces.map(|piece| piece.map(|piece| piece.token)).collect::<Result<_, _>>()?)
    };
    let expected = tokens(0.0)?;
    for temperature in [1e-45, 1e-40, 1.2e-38, 1e-36, 1e-30, 1e-20] {
        let found = tokens(temperature)?;
        ensure!(found == expected, "{found:?} at {temperature}, greedy {expected:?}");
    }
    Ok(())
}

#[trial(device, cpu)]
fn refused_calls_do_not_disturb_generation(device: &Device) -> Result<()> {
    let (prompt, _) = demo::PROMPTS[0];
    let run = |disturb: &dyn Fn(&mut Session) -> Result<()>| -> Result<Vec<u32>> {
        let mut session = session(device)?;
        session.start(prompt, &greedy(4, 6))?;
        let mut found = Vec::new();
        loop {
            match session.step(BUDGET)? {
                Progress::Token(piece) => {
                    found.push(piece.token);
                    disturb(&mut session)?;
                }
                Progress::Done(_) => return Ok(found),
                _ => {}
            }
        }
    };
    let expected = run(&|_| Ok(()))?;
    let refused = |what: &str, outcome: Result<(), Error>| -> Result<()> {
        ensure!(outcome.is_err(), "{what} was accepted");
        Ok(())
    };
    let found = run(&|session| {
        let context = session.context();
        let wrong = Sampling { top_p: 2.0, ..Sampling::GREEDY };
        refused("a token", session.start(&[u32::MAX], &greedy(4, 6)))?;
        refused("no prompt", session.start("", &greedy(4, 6)))?;
        refused("0 steps", session.start(prompt, &greedy(0, 6)))?;
        refused("a long prompt", session.start(&vec![7; context as usize + 1], &greedy(4, 6)))?;
        refused("top_p", session.start(prompt, &GenerateOptions { sampling: wrong, ..greedy(4, 6) }))?;
        let short = GenerateOptions { max_length: Some(1), ..greedy(4, 6) };
        refused("no tokens", session.generate(prompt, &short).map(drop))?;
        refused("profile", session.profile(0, Sampling::GREEDY).map(drop))?;
        refused("begin", session.begin(&[], 4, State::Seeded))?;
        refused("forward", session.forward(&TOKENS, 0, State::Seeded, false).map(drop))?;
        refused("rewind", session.rewind(context))?;
        refused("record", session.record(&[1, 2], 99, 4, &mut |_, _| true).map(drop))
    })?;
    ensure!(found == expected, "{found:?}, undisturbed {expected:?}");
    Ok(())
}

#[trial(device, cpu)]
fn arguments_out_of_range_are_refused(device: &Device) -> Result<()> {
    let mut session = session(device)?;
    let profile = session.profile(0, Sampling::GREEDY);
    ensure!(matches!(profile, Err(Error::Option { name: "steps", .. })), "{:?}", profile.err());
    let record = session.record(&[1, 2], 99, 4, &mut |_, _| true);
    let error = record.err().context("99 of 2 tokens were accepted")?;
    ensure!(matches!(error, Error::Option { name: "prompt", .. }) && error.to_string().contains("99 of 2"), "{error}");
    Ok(())
}
