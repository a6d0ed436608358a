//! The stepwise research interface: changed states between the steps, and layer outputs at every step.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use ruminate::{Device, Error, LoadOptions, Model, Session, SessionOptions, State};
use ruminate_tests::{Folder, trial};

const TOKENS: [u32; 5] = [7, 30, 120, 9, 255];
const STEPS: u32 = 6;

fn begun(device: &Device, seed: u64) -> Result<Session> {
    let model = Model::demo(device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed, ..SessionOptions::default() })?;
    session.begin(&TOKENS, STEPS, State::Seeded)?;
    Ok(session)
}

/// A step attends only to keys of the same step, so a run with the states of another run continues like that run.
#[trial(device, cpu, full)]
fn patched_states_continue_like_their_run(device: &Device) -> Result<()> {
    let (mut one, mut other) = (begun(device, 1)?, begun(device, 2)?);
    one.iterate(3)?;
    other.iterate(3)?;
    ensure!(one.states()? != other.states()?, "two seeds have the same states");
    one.set_states(&other.states()?)?;
    one.iterate(3)?;
    other.iterate(3)?;
    ensure!(one.states()? == other.states()?, "the patched run differs");
    ensure!(one.read_out()?.logits == other.read_out()?.logits);
    // Restored states have no effect.
    let before = one.states()?;
    let direction: Vec<f32> = (0..one.model().spec().width).map(|i| (i % 3) as f32 * 0.25).collect();
    one.add_to_states(&direction)?;
    let after = one.states()?;
    let rows = before.iter().zip(direction.iter().cycle());
    ensure!(rows.map(|(state, more)| state + more).eq(after.iter().copied()), "the sum differs");
    one.set_states(&before)?;
    ensure!(one.read_out()?.logits == other.read_out()?.logits, "the addition still has an effect");
    Ok(())
}

#[trial(device, cpu, full)]
fn hook_sees_every_step_and_can_change_states(device: &Device) -> Result<()> {
    let mut plain = begun(device, 1)?;
    plain.iterate(STEPS)?;
    let expected = plain.states()?;
    let (mut session, mut seen) = (begun(device, 1)?, Vec::new());
    session.iterate_with(2, |step, _| {
        seen.push(step);
        Ok::<(), Error>(())
    })?;
    session.iterate_with(STEPS - 2, |step, _| {
        seen.push(step);
        Ok::<(), Error>(())
    })?;
    ensure!(seen == [0, 1, 2, 3, 4, 5, 6] && session.states()? == expected, "{seen:?}");
    // Before the first step the hook can change the initial states.
    let mut zero = begun(device, 1)?;
    zero.iterate_with(STEPS, |step, states| {
        if step == 0 {
            states.fill(0.0);
        }
        Ok::<(), Error>(())
    })?;
    let mut given = plain.model().session(SessionOptions { seed: 1, ..SessionOptions::default() })?;
    given.begin(&TOKENS, STEPS, State::Given(&vec![0.0; expected.len()]))?;
    given.iterate(STEPS)?;
    ensure!(zero.states()? == given.states()?, "the change before the first step is lost");
    let stopped =
        begun(device, 1)?.iterate_with(STEPS, |step, _| if step == 2 { Err(Error::Cancelled) } else { Ok(()) });
    ensure!(matches!(stopped, Err(Error::Cancelled)));
    Ok(())
}

#[trial(device, cpu, full)]
fn kept_layers_match_every_step(device: &Device) -> Result<()> {
    let mut session = begun(device, 3)?;
    let config = session.model().spec().clone();
    let n = config.width as usize;
    let last = format!("core_block.{}", config.layers.core - 1);
    let names = ["states", "adapter", &last, "core_block.0.attn.Wqkv", "core_block.0.mlp.fc", "ln_f", "head"];
    let latents = session.iterate_keeping(STEPS, &names)?;
    ensure!((latents.steps, latents.rows) == (STEPS, TOKENS.len() as u32));
    ensure!(latents.layer("states") == latents.layer(&last), "the last block's output differs from the state");
    let mut single = begun(device, 3)?;
    for step in 0..STEPS {
        single.iterate(1)?;
        let states = single.states()?;
        let outputs = single.read_out()?;
        let adapter = single.trace("adapter")?;
        let fc = single.trace("core_block.0.mlp.fc")?;
        for row in 0..TOKENS.len() {
            let at = |name| latents.at(name, step, row as u32);
            let of = |values: &[f32], width: usize| Some(values[row * width..][..width].to_vec());
            for (name, values, width) in [
                ("states", &states, n),
                ("ln_f", &outputs.latents, n),
                ("head", &outputs.head, n),
                ("adapter", &adapter, n),
                ("core_block.0.mlp.fc", &fc, 2 * config.hidden as usize),
            ] {
                ensure!(at(name).map(<[f32]>::to_vec) == of(values, width), "{name} of row {row} at step {step}");
            }
        }
    }
    ensure!(latents.at("states", STEPS, 0).is_none() && latents.at("states", 0, 5).is_none());
    let folder = Folder::new()?;
    let path = folder.path().join("latents.safetensors");
    latents.write_safetensors(HashMap::from([("seed".to_owned(), "3".to_owned())]), &path)?;
    let bytes = std::fs::read(&path)?;
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    ensure!(file.tensor("states")?.shape() == [STEPS as usize, TOKENS.len(), n]);
    for layer in &latents.layers {
        ensure!(file.tensor(&layer.name)?.data() == bytemuck::cast_slice::<f32, u8>(&layer.values), "{}", layer.name);
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn invalid_calls_are_refused(device: &Device) -> Result<()> {
    let mut session = begun(device, 1)?;
    for wrong in ["core_block.9", "core_block.01", "core_block", "lm_head", "coda.0.attn.parts", "", "prelude.0"] {
        let refused = session.iterate_keeping(1, &[wrong]);
        ensure!(matches!(&refused, Err(Error::Option { name: "layer", .. })), "{wrong:?}: {refused:?}");
    }
    ensure!(matches!(session.set_states(&[0.0; 3]), Err(Error::State { found: 3, .. })));
    ensure!(matches!(session.add_to_states(&[0.0; 3]), Err(Error::State { found: 3, .. })));
    session.iterate(STEPS)?;
    ensure!(matches!(session.iterate_with(1, |_, _| Ok::<(), Error>(())), Err(Error::Option { .. })));
    let mut fresh = session.model().session(SessionOptions::default())?;
    ensure!(matches!(fresh.set_states(&[]), Err(Error::NotBegun)));
    ensure!(matches!(fresh.iterate_with(1, |_, _| Ok::<(), Error>(())), Err(Error::NotBegun)));
    ensure!(matches!(fresh.iterate_keeping(1, &["states"]), Err(Error::NotBegun)));
    Ok(())
}
