//! Traces: the recorded recurrence is the one that the generation computed.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use ruminate::statistics::{entropy, log_probability};
use ruminate::trace::{Trace, most_likely};
use ruminate::{Device, Error, GenerateOptions, KvShare, Model, Sampling, SessionOptions, State, demo};
use ruminate_tests::{Folder, compare, demo_model, trial};

const STEPS: u32 = 9;

fn options(share: KvShare) -> SessionOptions {
    SessionOptions { seed: 5, share, ..SessionOptions::default() }
}

/// The length of a prompt, and the prompt with its greedy continuation, whose last token was not computed.
fn generated(model: &Model, share: KvShare) -> Result<(usize, Vec<u32>)> {
    let mut session = model.session(options(share))?;
    let asked = GenerateOptions {
        steps: Some(STEPS),
        max_tokens: Some(6),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    };
    let prompt = session.encode(demo::PROMPTS[0].0, ruminate::Specials::Bos)?;
    let mut tokens = prompt.clone();
    for piece in session.generate(&prompt[..], &asked)? {
        tokens.push(piece?.token);
    }
    Ok((prompt.len(), tokens))
}

fn recorded(model: &Model, tokens: &[u32], prompt: usize, share: KvShare) -> Result<Trace> {
    Ok(model.session(options(share))?.record(tokens, prompt, STEPS, &mut |_, _| true)?)
}

#[trial(device, cpu, full)]
fn replay_predicts_generated_tokens(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for share in [KvShare::None, KvShare::Steps(2)] {
        let (prompt, tokens) = generated(&model, share)?;
        let trace = recorded(&model, &tokens[..tokens.len() - 1], prompt, share)?;
        for (at, &token) in tokens.iter().enumerate().skip(prompt) {
            let said = trace.top_tokens[trace.at(at - 1, STEPS as usize) * trace.top];
            ensure!(said == token, "{share:?}, position {at}: the replay predicts {said}, but {token} was generated");
        }
    }
    Ok(())
}

/// Compares with plain passes at the same depth.
#[trial(device, cpu, full)]
fn read_outs_match_passes_of_same_depth(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (prompt, tokens) = generated(&model, KvShare::None)?;
    let trace = recorded(&model, &tokens, prompt, KvShare::None)?;
    let vocab = model.spec().padded_vocab as usize;
    for steps in [1, 4, STEPS] {
        let logits = model.session(options(KvShare::None))?.forward(&tokens, steps, State::Seeded, true)?;
        for (at, logits) in logits.chunks(vocab).enumerate() {
            let cell = trace.at(at, steps as usize);
            let (found, expected) = (trace.entropies[cell], entropy(logits));
            ensure!((found - expected).abs() < 1e-3, "position {at}, {steps} steps: {found} nats, not {expected}");
            let tops = &trace.top_tokens[cell * trace.top..][..trace.top];
            ensure!(tops[0] == most_likely(logits, 1)[0], "position {at}, {steps} steps: {tops:?}");
            for (place, &token) in tops.iter().enumerate() {
                let expected = log_probability(logits, token as usize).exp();
                let found = trace.top_probabilities[cell * trace.top + place];
                ensure!((found - expected).abs() < 1e-3, "position {at}, {steps} steps: {found}, not {expected}");
            }
        }
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn recorded_states_match_single_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (prompt, tokens) = generated(&model, KvShare::None)?;
    let trace = recorded(&model, &tokens, prompt, KvShare::None)?;
    for steps in [0, 3, STEPS] {
        let mut session = model.session(options(KvShare::None))?;
        session.begin(&tokens, STEPS, State::Seeded)?;
        if steps > 0 {
            session.iterate(steps)?;
        }
        let rows = 0..tokens.len();
        let found: Vec<f32> = rows.flat_map(|token| trace.state(token, steps as usize)).copied().collect();
        compare(&found, &session.states()?, 1e-9)?;
    }
    let (distances, settled) = (trace.distances(), trace.stable_from());
    for token in 0..tokens.len() {
        let far = |step: usize| distances[trace.at(token, step)];
        ensure!(far(STEPS as usize) == 0.0 && far(0) > far(STEPS as usize - 1), "position {token} does not converge");
        ensure!(settled[token] <= STEPS);
    }
    let pca = trace.pca();
    ensure!(
        pca.explained.is_sorted_by(|a, b| a >= b) && pca.explained.iter().sum::<f32>() <= 1.0001,
        "{:?}",
        pca.explained
    );
    ensure!(pca.coordinates.len() == tokens.len() * (STEPS as usize + 1) * pca.components);
    Ok(())
}

#[trial(device, cpu, full)]
fn trace_can_be_cancelled_and_is_bounded(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (prompt, tokens) = generated(&model, KvShare::None)?;
    let mut calls = 0;
    let stopped = model.session(options(KvShare::None))?.record(&tokens, prompt, STEPS, &mut |done, all| {
        calls += 1;
        done < all / 2
    });
    ensure!(matches!(stopped, Err(Error::Cancelled)) && calls == STEPS / 2 + 1, "{calls} calls");
    let most = Trace::most_tokens(model.spec(), 60_000) as usize;
    let refused = Trace::check(model.spec(), most + 1, 60_000);
    ensure!(matches!(refused, Err(Error::TraceTooLarge { .. })), "{refused:?}");
    Ok(Trace::check(model.spec(), most, 60_000)?)
}

#[trial(device, cpu, full)]
fn trace_file_holds_everything(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (prompt, tokens) = generated(&model, KvShare::None)?;
    let trace = recorded(&model, &tokens, prompt, KvShare::None)?;
    let folder = Folder::new()?;
    let path = folder.path().join("trace.safetensors");
    let about = HashMap::from([("seed".to_owned(), "5".to_owned())]);
    trace.write_safetensors(&trace.pca(), about, &path)?;
    let bytes = std::fs::read(&path)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)?;
    ensure!(header.metadata().as_ref().is_some_and(|about| about["seed"] == "5"));
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    let states = file.tensor("states")?;
    ensure!(states.shape() == [tokens.len(), STEPS as usize + 1, model.spec().width as usize], "{:?}", states.shape());
    ensure!(states.data() == bytemuck::cast_slice::<f32, u8>(&trace.states));
    ensure!(file.tensor("tokens")?.data() == bytemuck::cast_slice::<u32, u8>(&tokens));
    for name in ["steps_used", "distances", "entropies", "top_tokens", "top_probabilities", "pca", "pca_directions"] {
        ensure!(!file.tensor(name)?.data().is_empty(), "{name}");
    }
    let nowhere = trace.write_safetensors(&trace.pca(), HashMap::new(), folder.path());
    ensure!(matches!(nowhere, Err(Error::Output { .. })), "{nowhere:?}");
    Ok(())
}
