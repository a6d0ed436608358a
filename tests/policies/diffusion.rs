//! Diffusion forcing: the tokens of its wavefronts, their ends and refused options. The `golden` tests compare it with the authors' code.

use std::time::Duration;

use anyhow::{Result, ensure};
use ruminate::{
    Continuous, Diffusion, Exit, FreezeRule, Freezing, GenerateOptions, KvShare, Model, Noise, NoiseMix, Piece,
    Pipeline, Progress, Prompt, Sampling, SessionOptions, Specials, Speculate, Statistics, StepsOf, StopReason,
};
use ruminate_engine::Device;
use ruminate_tests::{demo_model, trial};

const STEPS: u32 = 32;

/// Problems of the kind that the demo was trained on.
const PROBLEMS: [&str; 4] = [
    "Ball in B. Swap AB CD BE AC DE AD BC CE AB DE AC BD AE BC CD AB",
    "Ball in A. Swap AB BC",
    "Ball in C. Swap AE CD BD AC",
    "Ball in E. Swap AB AE CD BE AC",
];

fn session_options(seed: u64) -> SessionOptions {
    SessionOptions { seed, context: Some(128), share: Diffusion::SHARE, ..SessionOptions::default() }
}

fn plain(tokens: u32) -> GenerateOptions {
    GenerateOptions {
        steps: Some(STEPS),
        max_tokens: Some(tokens),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    }
}

fn diffusing(tokens: u32, diffusion: Diffusion) -> GenerateOptions {
    GenerateOptions { diffusion: Some(diffusion), ..plain(tokens) }
}

fn generate(model: &Model, text: &str, options: &GenerateOptions) -> Result<(Vec<Piece>, Statistics)> {
    let mut session = model.session(session_options(3))?;
    let mut pieces = session.generate(text, options)?;
    let found = pieces.by_ref().collect::<Result<_, _>>()?;
    Ok((found, pieces.statistics().clone()))
}

fn tokens(pieces: &[Piece]) -> Vec<u32> {
    pieces.iter().map(|piece| piece.token).collect()
}

/// A strict threshold freezes only states that no longer change.
#[trial(device, cpu, full)]
fn strictly_frozen_tokens_match_plain_decoding(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let freeze = Freezing { threshold: 0.002, ..Freezing::new(FreezeRule::LatentDiff) };
    for text in if device.is_cpu() { &PROBLEMS[1..2] } else { &PROBLEMS[..] } {
        let expected = tokens(&generate(&model, text, &GenerateOptions { steps: Some(128), ..plain(6) })?.0);
        let deep = Diffusion { inner_steps: 2 * STEPS, ..Diffusion::default() };
        for diffusion in [Diffusion::default(), Diffusion { headway: 2, inner_steps: 2, ..Diffusion::default() }, deep]
        {
            let found = tokens(&generate(&model, text, &diffusing(6, Diffusion { freeze, ..diffusion }))?.0);
            ensure!(found == expected, "{text}: {found:?} instead of {expected:?}");
        }
    }
    Ok(())
}

#[trial(device, cpu)]
fn positions_share_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (pieces, statistics) = generate(&model, PROBLEMS[3], &diffusing(12, Diffusion::default()))?;
    let taken: u32 = pieces.iter().skip(1).map(|piece| piece.steps).sum();
    ensure!(pieces.len() == 12 && statistics.core_passes % 4 == 0, "{} tokens, {statistics:?}", pieces.len());
    ensure!(
        statistics.core_passes < u64::from(taken),
        "{} passes for {taken} steps: positions share no passes",
        statistics.core_passes
    );
    Ok(())
}

/// Sampled, with noise and with random tokens at the end of the wavefront; another seed gives other tokens.
#[trial(device, cpu, full)]
fn equal_seeds_generate_same_tokens_by_iterator_and_steps(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let noise_mix = NoiseMix { share: 0.5, dampened: false, sqrt: true };
    let diffusion = Diffusion { headway: 3, wavefront: 16, noise_mix, most_steps: Some(24), ..Diffusion::default() };
    let sampling = Sampling { temperature: 1.5, top_k: 0, ..Sampling::default() };
    let options = GenerateOptions { sampling, ..diffusing(9, diffusion) };
    let said = |seed| -> Result<Vec<Piece>> {
        let mut session = model.session(session_options(seed))?;
        Ok(session.generate(PROBLEMS[3], &options)?.collect::<Result<_, _>>()?)
    };
    let expected = said(5)?;
    ensure!(said(5)? == expected, "equal seeds give different tokens");
    ensure!(tokens(&said(6)?) != tokens(&expected), "another seed gives the same tokens");
    let mut session = model.session(session_options(5))?;
    let mut generation = session.generate(PROBLEMS[3], &options)?;
    let mut stepped = Vec::new();
    loop {
        match generation.step(Duration::from_millis(2))? {
            Progress::Token(piece) => stepped.push(piece),
            Progress::Done(_) => break,
            _ => std::thread::yield_now(),
        }
    }
    ensure!(stepped == expected, "bounded steps give different tokens");
    Ok(())
}

#[trial(device, cpu, full)]
fn every_freeze_rule_terminates(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for (rule, authors) in FreezeRule::ALL.into_iter().flat_map(|rule| [(rule, false), (rule, true)]) {
        for (continuous, wavefront) in [(None, 5), (Some(Continuous::Raw), 64)] {
            let freeze = Freezing { threshold: 0.1, authors, ..Freezing::new(rule) };
            let diffusion = Diffusion { freeze, wavefront, headway: 2, ..Diffusion::default() };
            let options = GenerateOptions { continuous, ..diffusing(9, diffusion) };
            let (pieces, _) = generate(&model, PROBLEMS[1], &options)?;
            ensure!(pieces.len() == 9, "{}: {} tokens", freeze, pieces.len());
        }
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn most_steps_advances_unsettled_wavefront(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let freeze = Freezing { threshold: 1e-30, ..Freezing::new(FreezeRule::LatentDiff) };
    let diffusion = Diffusion { freeze, most_steps: Some(10), inner_steps: 3, ..Diffusion::default() };
    let (pieces, _) = generate(&model, PROBLEMS[1], &diffusing(5, diffusion))?;
    ensure!(pieces.len() == 5, "{} tokens", pieces.len());
    // Rounds have 3 steps: the first whole round after 10 steps ends at 12.
    ensure!(pieces.iter().skip(1).all(|piece| piece.steps >= 9), "{pieces:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn prompt_in_wavefront_matches_plain_decoding(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let freeze = Freezing { threshold: 0.002, ..Freezing::new(FreezeRule::LatentDiff) };
    let whole = Diffusion { freeze, full_prefill: false, ..Diffusion::default() };
    for text in PROBLEMS {
        let expected = tokens(&generate(&model, text, &GenerateOptions { steps: Some(128), ..plain(4) })?.0);
        let found = tokens(&generate(&model, text, &diffusing(4, whole.clone()))?.0);
        ensure!(found == expected, "{text}: {found:?} instead of {expected:?}");
    }
    // A generation that is dropped before its first token leaves the session as it was before the prompt.
    let mut session = model.session(session_options(1))?;
    drop(session.generate(PROBLEMS[3], &diffusing(4, whole.clone()))?);
    ensure!(session.position() == 0, "{} positions", session.position());
    let small = Diffusion { wavefront: 4, ..whole };
    let error =
        session.generate(PROBLEMS[3], &diffusing(4, small)).map(|_| ()).expect_err("a wavefront of 4 holds the prompt");
    ensure!(error.to_string().contains("wavefront"), "{error}");
    Ok(())
}

/// Every position of the context gets a token.
#[trial(device, cpu, full)]
fn generation_fills_the_context(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for authors in [false, true] {
        let freeze = Freezing { authors, ..Freezing::new(FreezeRule::LatentDiff) };
        let mut session = model.session(SessionOptions { context: Some(30), ..session_options(2) })?;
        let prompt: Vec<u32> = (0..10).collect();
        let diffusion = Diffusion { freeze, headway: 2, ..Diffusion::default() };
        let options = GenerateOptions { max_tokens: None, ..diffusing(1, diffusion) };
        let mut pieces = session.generate(Prompt::Tokens(&prompt), &options)?;
        let count = pieces.by_ref().collect::<Result<Vec<_>, _>>()?.len();
        ensure!(count == 20, "{count} tokens after 10 of 30 positions");
        ensure!(pieces.stop_reason() == Some(StopReason::ContextFull), "{:?}", pieces.stop_reason());
    }
    let mut session = model.session(SessionOptions { context: Some(10), ..session_options(2) })?;
    let prompt: Vec<u32> = (0..10).collect();
    let count = session.generate(Prompt::Tokens(&prompt), &diffusing(9, Diffusion::default()))?.count();
    ensure!(count == 1, "{count} tokens after a prompt that fills the context");
    Ok(())
}

/// The end token stops generation at once; later tokens of the wavefront are dropped.
#[trial(device, cpu, full)]
fn end_token_stops_generation(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (pieces, _) = generate(&model, PROBLEMS[3], &diffusing(12, Diffusion::default()))?;
    let end = pieces[4].token;
    let first = pieces.iter().position(|piece| piece.token == end).unwrap_or(4);
    let options = GenerateOptions { end_tokens: Some(vec![end]), ..diffusing(12, Diffusion::default()) };
    let mut session = model.session(session_options(3))?;
    let mut generation = session.generate(PROBLEMS[3], &options)?;
    let found = generation.by_ref().collect::<Result<Vec<_>, _>>()?;
    ensure!(tokens(&found) == tokens(&pieces[..=first]), "{found:?}");
    ensure!(generation.stop_reason() == Some(StopReason::EndToken(end)), "{:?}", generation.stop_reason());
    Ok(())
}

/// Expects one read-back for the prompt and one for each round, and no other waits.
#[trial(device, cpu, full)]
fn only_read_backs_of_tokens_wait(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut session = model.session(session_options(3))?;
    let before = device.counters();
    let mut generation = session.generate(PROBLEMS[3], &diffusing(12, Diffusion::default()))?;
    generation.by_ref().collect::<Result<Vec<_>, _>>()?;
    let rounds = generation.statistics().core_passes / 4;
    drop(generation);
    let spent = device.counters() - before;
    // Up to two further ones can be in flight whose values are not used.
    let read = rounds + 1..=rounds + 3;
    ensure!(read.contains(&spent.read_backs), "{} read-backs for {rounds} rounds", spent.read_backs);
    ensure!(spent.waits <= spent.read_backs, "{} waits for {} read-backs", spent.waits, spent.read_backs);
    Ok(())
}

#[trial(device, cpu, full)]
fn session_continues_after_diffusion(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut session = model.session(session_options(3))?;
    let said = session.generate(PROBLEMS[3], &diffusing(6, Diffusion::default()))?.count();
    let prompt = session.encode(PROBLEMS[3], Specials::Bos)?.len() as u32;
    ensure!(said == 6 && session.position() == prompt + 5, "{said} tokens, {} positions", session.position());
    let more = session.generate(Prompt::Continue, &diffusing(6, Diffusion::default()))?.count();
    ensure!(more == 6 && session.position() == prompt + 11, "{more} tokens, {} positions", session.position());
    let plainly = session.generate(" ", &plain(3))?.count();
    ensure!(plainly == 3, "{plainly} tokens");
    Ok(())
}

#[trial(device, cpu, full)]
fn tokens_carry_logprobs(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let options = GenerateOptions { logprobs: Some(2), ..diffusing(8, Diffusion::default()) };
    let (pieces, _) = generate(&model, PROBLEMS[3], &options)?;
    for piece in &pieces {
        let best = piece.top.first().copied();
        ensure!(best.map(|(token, _)| token) == Some(piece.token), "greedy, but not the most likely token: {piece:?}");
        ensure!(piece.logprob == best.map(|(_, value)| value), "{piece:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn invalid_options_are_refused(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let usual = Diffusion::default;
    let threshold = |threshold| Freezing { threshold, ..Freezing::new(FreezeRule::LatentDiff) };
    let wrong = [
        ("headway", Diffusion { headway: 0, ..usual() }),
        ("inner_steps", Diffusion { inner_steps: 0, ..usual() }),
        ("inner_steps", Diffusion { inner_steps: u32::MAX, ..usual() }),
        ("wavefront", Diffusion { wavefront: 1, ..usual() }),
        ("wavefront", Diffusion { wavefront: 257, ..usual() }),
        ("ema", Diffusion { ema: 1.0, ..usual() }),
        ("ema", Diffusion { ema: f32::NAN, ..usual() }),
        ("noise_mix", Diffusion { noise_mix: NoiseMix { share: 1.5, ..NoiseMix::default() }, ..usual() }),
        ("freeze", Diffusion { freeze: threshold(0.0), ..usual() }),
        ("freeze", Diffusion { freeze: threshold(f32::NAN), ..usual() }),
        ("most_steps", Diffusion { most_steps: Some(0), ..usual() }),
    ];
    let mut session = model.session(session_options(1))?;
    for (name, diffusion) in wrong {
        let error = session.generate("A", &diffusing(3, diffusion)).map(|_| ()).expect_err(name);
        ensure!(error.to_string().contains(name), "{name}: {error}");
    }
    let with = |change: fn(&mut GenerateOptions)| {
        let mut options = diffusing(3, Diffusion::default());
        change(&mut options);
        options
    };
    let apart = [
        ("speculate", with(|options| options.speculate = Some(Speculate::default()))),
        ("pipeline", with(|options| options.pipeline = Some(Pipeline::default()))),
        ("exit", with(|options| options.exit = Some(Exit::new(ruminate::Criterion::LatentDiff)))),
        ("steps_of", with(|options| options.steps_of = Some(StepsOf::new(|_| 3)))),
        ("noise", with(|options| options.noise = Some(Noise::new(ruminate::NoiseKind::Fixed, 0.1)))),
        ("continuous", with(|options| options.continuous = Some(Continuous::Normed))),
    ];
    for (name, options) in apart {
        let error = session.generate("A", &options).map(|_| ()).expect_err(name);
        let text = error.to_string();
        ensure!(text.contains("diffusion") && text.contains(name), "{name}: {text}");
    }
    let options = SessionOptions { invariant: true, share: KvShare::None, ..session_options(1) };
    let mut invariant = model.session(options)?;
    let error = invariant.generate("A", &diffusing(3, usual())).map(|_| ()).expect_err("it is refused");
    ensure!(error.to_string().contains("invariant"), "{error}");
    Ok(())
}
