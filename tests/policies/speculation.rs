//! Speculative decoding by drafts and by pipelining: in the invariant mode every token is that of plain decoding, for random prompts, greedy and sampled.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ruminate::{
    Criterion, Exit, GenerateOptions, KvShare, Lookup, Piece, Pipeline, Progress, Sampling, Session, SessionOptions,
    Speculate, State, Statistics,
};
use ruminate_engine::Device;
use ruminate_shaders::Noise;
use ruminate_tests::{demo_model, near_tie, trial};

const STEPS: u32 = 12;
const SAMPLED: Sampling =
    Sampling { temperature: 1.2, top_k: 0, top_p: 0.95, min_p: 0.0, repeat_penalty: 1.1, ..Sampling::GREEDY };

fn invariant(seed: u64) -> SessionOptions {
    SessionOptions { seed, invariant: true, context: Some(96), ..SessionOptions::default() }
}

fn plain(sampling: Sampling, tokens: u32) -> GenerateOptions {
    GenerateOptions {
        steps: Some(STEPS),
        max_tokens: Some(tokens),
        sampling,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    }
}

/// A random prompt of tokens in the demo's vocabulary.
fn prompt(seed: u64) -> Vec<u32> {
    let mut noise = Noise::new(seed);
    (0..4 + noise.below(20)).map(|_| noise.below(400)).collect()
}

fn tokens(session: &mut Session, prompt: &[u32], options: &GenerateOptions) -> Result<(Vec<u32>, Statistics)> {
    let mut pieces = session.generate(prompt, options)?;
    let tokens = pieces.by_ref().map(|piece| Ok(piece?.token)).collect::<Result<_>>()?;
    Ok((tokens, pieces.statistics().clone()))
}

/// Compares both ways of computing ahead with a plain generation for each prompt. Prompts and seeds are fixed.
fn same(device: &Device, sampling: Sampling, seeds: impl Iterator<Item = u64>) -> Result<()> {
    let model = demo_model(device)?;
    for seed in seeds {
        let (prompt, plain, place) = (prompt(seed), plain(sampling, 8), seed as usize / 2);
        let expected = tokens(&mut model.session(invariant(seed))?, &prompt, &plain)?.0;
        let draft_steps = [None, Some(1), Some(4), Some(STEPS)][place % 4];
        let speculate = Some(Speculate { draft_steps, draft_len: 1 + place as u32 % 7, threshold: 1.0 });
        let every = [None, Some(2), Some(3), Some(5), Some(STEPS), Some(STEPS + 3)][place % 6];
        let ways = [
            GenerateOptions { speculate, ..plain.clone() },
            GenerateOptions { pipeline: Some(Pipeline { every }), ..plain },
        ];
        for asked in ways {
            let found = tokens(&mut model.session(invariant(seed))?, &prompt, &asked)?.0;
            ensure!(found == expected, "prompt {seed}, {asked:?}: {found:?} instead of {expected:?}");
        }
    }
    Ok(())
}

/// The number of prompts, lower on the CPU reference, which is slow.
fn prompts(device: &Device) -> u64 {
    if device.is_cpu() { 8 } else { 200 }
}

#[trial(device, cpu, full)]
fn computing_ahead_keeps_greedy_tokens(device: &Device) -> Result<()> {
    same(device, Sampling::GREEDY, (0..prompts(device)).step_by(2))
}

#[trial(device, cpu, full)]
fn computing_ahead_keeps_sampled_tokens(device: &Device) -> Result<()> {
    same(device, SAMPLED, (1..prompts(device)).step_by(2))
}

#[trial(device, cpu, full)]
fn invariant_logits_do_not_depend_on_row_count(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for seed in 0..4 {
        let prompt = prompt(100 + seed);
        let together = model.session(invariant(seed))?.forward(&prompt, STEPS, State::Seeded, true)?;
        let mut one_by_one = Vec::new();
        let mut session = model.session(invariant(seed))?;
        for token in &prompt {
            one_by_one.extend(session.forward(&[*token], STEPS, State::Seeded, true)?);
        }
        let differing = together.iter().zip(&one_by_one).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        ensure!(together.len() == one_by_one.len() && differing == 0, "{differing} of {} logits", together.len());
    }
    Ok(())
}

/// At the first token that differs, the logits of both tokens, computed one by one, are nearly equal.
#[trial(device, cpu, full)]
fn differences_without_invariant_mode_are_near_ties(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for seed in 0..if device.is_cpu() { 4 } else { 40 } {
        let prompt = prompt(300 + seed);
        let plain = plain(Sampling::GREEDY, 8);
        let usual = || model.session(SessionOptions { seed, context: Some(96), ..SessionOptions::default() });
        let expected = tokens(&mut usual()?, &prompt, &plain)?.0;
        let ways = [
            GenerateOptions { speculate: Some(Speculate::default()), ..plain.clone() },
            GenerateOptions { pipeline: Some(Pipeline::default()), ..plain.clone() },
        ];
        for way in ways {
            let found = tokens(&mut usual()?, &prompt, &way)?.0;
            near_tie(&mut usual()?, &prompt, STEPS, &expected, &found).with_context(|| format!("prompt {seed}"))?;
        }
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn drafts_combine_with_early_exits(device: &Device) -> Result<()> {
    let exit = Some(Exit { threshold: 0.1, ..Exit::new(Criterion::LatentDiff) });
    let model = demo_model(device)?;
    let mut least = STEPS;
    for seed in 0..if device.is_cpu() { 3 } else { 20 } {
        let prompt = prompt(500 + seed);
        let plain = GenerateOptions { exit, ..plain(SAMPLED, 8) };
        let run = |asked: &GenerateOptions| -> Result<Vec<Piece>> {
            let mut session = model.session(invariant(seed))?;
            let pieces = session.generate(prompt.as_slice(), asked)?;
            Ok(pieces.collect::<Result<_, _>>()?)
        };
        let expected = run(&plain)?;
        let found = run(&GenerateOptions { speculate: Some(Speculate::default()), ..plain })?;
        ensure!(found == expected, "prompt {seed}: {found:?} instead of {expected:?}");
        least = found.iter().map(|piece| piece.steps).fold(least, u32::min);
    }
    ensure!(least < STEPS, "no token exits early");
    Ok(())
}

/// Compares tokens and their steps for rules that only some tokens meet, checked at every step or every few, with both lookups.
#[trial(device, cpu, full)]
fn pipelining_combines_with_early_exits(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (mut early, mut tokens) = (0, 0);
    for seed in 0..prompts(device) / 4 {
        let (prompt, mut noise) = (prompt(700 + seed), Noise::new(seed));
        let criterion = [Criterion::LatentDiff, Criterion::Cosine][noise.below(2) as usize];
        let threshold = [[0.5, 0.2, 0.1], [0.1, 0.02, 0.005]][criterion as usize][noise.below(3) as usize];
        let exit = Exit { threshold, min_steps: noise.below(4), every: 1 + noise.below(3), ..Exit::new(criterion) };
        let every = [None, Some(2), Some(3), Some(5), Some(STEPS)][noise.below(5) as usize];
        let lookup = [Lookup::Latest, Lookup::Full][noise.below(2) as usize];
        let sampling = if noise.below(2) == 0 { Sampling::GREEDY } else { SAMPLED };
        let plain = GenerateOptions { exit: Some(exit), ..plain(sampling, 8) };
        let run = |asked: &GenerateOptions| -> Result<Vec<Piece>> {
            let mut session = model.session(SessionOptions { lookup, ..invariant(seed) })?;
            let pieces = session.generate(prompt.as_slice(), asked)?;
            Ok(pieces.collect::<Result<_, _>>()?)
        };
        let expected = run(&plain)?;
        let found = run(&GenerateOptions { pipeline: Some(Pipeline { every }), ..plain })?;
        ensure!(found == expected, "prompt {seed}, {exit:?}, every {every:?}: {found:?} instead of {expected:?}");
        early += found.iter().filter(|piece| piece.steps < STEPS).count();
        tokens += found.len();
    }
    ensure!(early > 0 && early < tokens, "{early} of {tokens} tokens exit early");
    Ok(())
}

#[trial(device, cpu, full)]
fn accepted_drafts_reduce_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let prompt = prompt(1);
    let plain = GenerateOptions { steps: Some(16), ..plain(Sampling::GREEDY, 21) };
    let run = |options: &GenerateOptions| tokens(&mut model.session(invariant(1))?, &prompt, options);
    let (expected, alone) = run(&plain)?;
    ensure!(alone.core_passes == 16 * 20, "{} passes for 20 tokens of 16 steps", alone.core_passes);
    // All drafts at full depth are accepted: four of them and the verifying pass yield five tokens.
    let all = Some(Speculate { draft_steps: Some(16), draft_len: 4, threshold: 1.0 });
    let (found, drafted) = run(&GenerateOptions { speculate: all, ..plain.clone() })?;
    ensure!(found == expected, "the tokens differ");
    ensure!(drafted.core_passes >= 4 * 5 * 16, "{} passes", drafted.core_passes);
    ensure!(drafted.core_passes <= 6 * 5 * 16, "{} passes: not all drafts were accepted", drafted.core_passes);
    // A draft read out at full depth is never rejected.
    let (found, guessed) = run(&GenerateOptions { pipeline: Some(Pipeline { every: Some(16) }), ..plain.clone() })?;
    ensure!(found == expected && guessed.core_passes <= 22 * 16, "{} passes", guessed.core_passes);
    Ok(())
}

#[trial(device, cpu, full)]
fn lower_threshold_accepts_more_drafts(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let run = |threshold| -> Result<u64> {
        let speculate = Some(Speculate { draft_steps: Some(1), draft_len: 4, threshold });
        let options = GenerateOptions { speculate, ..plain(Sampling::GREEDY, 17) };
        Ok(tokens(&mut model.session(invariant(3))?, &prompt(3), &options)?.1.core_passes)
    };
    let (strict, lenient) = (run(1.0)?, run(1e-30)?);
    // With the lenient threshold, every draft is accepted: four rounds of five tokens, plus the passes computed ahead.
    ensure!(lenient < strict && lenient <= 6 * (4 + u64::from(STEPS)), "{lenient} passes, {strict} with threshold 1");
    Ok(())
}

#[trial(device, cpu, full)]
fn computing_ahead_fills_same_context(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let prompt = prompt(5);
    let options = SessionOptions { context: Some(prompt.len() as u32 + 6), ..invariant(5) };
    let all = GenerateOptions { max_tokens: None, ..plain(Sampling::GREEDY, 1) };
    let run = |asked: &GenerateOptions| tokens(&mut model.session(options.clone())?, &prompt, asked);
    let expected = run(&all)?.0;
    ensure!(expected.len() == 7, "{} tokens", expected.len());
    for asked in [
        GenerateOptions { speculate: Some(Speculate::default()), ..all.clone() },
        GenerateOptions { pipeline: Some(Pipeline::default()), ..all.clone() },
    ] {
        let found = run(&asked)?.0;
        ensure!(found == expected, "{asked:?}: {found:?} instead of {expected:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn logprobs_match_plain_decoding(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let prompt = prompt(7);
    let asked = GenerateOptions { logprobs: Some(3), ..plain(SAMPLED, 9) };
    let run = |asked: &GenerateOptions| -> Result<Vec<Piece>> {
        let mut session = model.session(invariant(7))?;
        let pieces = session.generate(prompt.as_slice(), asked)?;
        Ok(pieces.collect::<Result<_, _>>()?)
    };
    let expected = run(&asked)?;
    ensure!(expected.iter().all(|piece| piece.logprob.is_some() && piece.top.len() == 3), "{expected:?}");
    for asked in [
        GenerateOptions { speculate: Some(Speculate::default()), ..asked.clone() },
        GenerateOptions { pipeline: Some(Pipeline::default()), ..asked.clone() },
    ] {
        let found = run(&asked)?;
        ensure!(found == expected, "{found:?} instead of {expected:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn session_continues_after_computing_ahead(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (first, second) = (prompt(9), prompt(10));
    let run = |asked: &GenerateOptions| -> Result<_> {
        let mut session = model.session(invariant(9))?;
        let one = tokens(&mut session, &first, asked)?.0;
        let held = session.position();
        let other = GenerateOptions { speculate: None, pipeline: None, ..asked.clone() };
        Ok((one, held, tokens(&mut session, &second, &other)?.0, session.position()))
    };
    let plain = plain(Sampling::GREEDY, 6);
    let expected = run(&plain)?;
    for asked in [
        GenerateOptions { speculate: Some(Speculate::default()), ..plain.clone() },
        GenerateOptions { speculate: Some(Speculate { draft_len: 2, ..Speculate::default() }), ..plain.clone() },
        GenerateOptions { pipeline: Some(Pipeline::default()), ..plain.clone() },
    ] {
        ensure!(run(&asked)? == expected, "{asked:?}");
    }
    Ok(())
}

#[trial(device, cpu)]
fn bounded_steps_generate_same_tokens(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let prompt = prompt(11);
    let plain = plain(SAMPLED, 10);
    let expected = tokens(&mut model.session(invariant(11))?, &prompt, &plain)?.0;
    for asked in [
        GenerateOptions { speculate: Some(Speculate::default()), ..plain.clone() },
        GenerateOptions { pipeline: Some(Pipeline::default()), ..plain.clone() },
    ] {
        let mut session = model.session(invariant(11))?;
        session.start(prompt.as_slice(), &asked)?;
        let mut found = Vec::new();
        loop {
            match session.step(Duration::from_millis(2))? {
                Progress::Token(piece) => found.push(piece.token),
                Progress::Done(_) => break,
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        ensure!(found == expected, "{asked:?}: {found:?} instead of {expected:?}");
    }
    Ok(())
}

/// Applies Pearson's test over many seeds to the first two tokens after a prompt, of three candidates each, against their probabilities by the model's logits.
/// States begin as zeros, so that only the draws differ. With 8 degrees of freedom the test fails by chance once in 10^4 (31.8). It detects a distribution that
/// is off by w² = Σ(q - p)²/p with a probability of 99 % from n·w² = 52, so with 300 seeds from w = 0.42. On the CPU reference, with 30 seeds, it detects only
/// gross errors.
#[trial(device, cpu, matrix)]
fn two_sampled_tokens_follow_model_distribution(device: &Device) -> Result<()> {
    const CANDIDATES: usize = 3;
    const DEPTH: u32 = 4;
    let (model, prompt, seeds) = (demo_model(device)?, prompt(21), if device.is_cpu() { 30 } else { 300 });
    let sampling = Sampling { temperature: 2.0, top_k: CANDIDATES as u32, ..Sampling::GREEDY };
    let zero = |seed| SessionOptions { init_scale: 0.0, ..invariant(seed) };
    let likely = |logits: &[f32]| -> Vec<(u32, f64)> {
        let mut best: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&logit| f64::from(logit) / 2.0)).collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        best.truncate(CANDIDATES);
        let total: f64 = best.iter().map(|(_, logit)| logit.exp()).sum();
        best.into_iter().map(|(token, logit)| (token, logit.exp() / total)).collect()
    };
    let mut expected = Vec::new();
    for (first, probability) in likely(&model.session(zero(0))?.forward(&prompt, DEPTH, State::Seeded, false)?) {
        let both = [prompt.as_slice(), &[first]].concat();
        let logits = model.session(zero(0))?.forward(&both, DEPTH, State::Seeded, false)?;
        expected.extend(likely(&logits).into_iter().map(|(second, then)| ((first, second), probability * then)));
    }
    let plain = GenerateOptions { steps: Some(DEPTH), ..plain(sampling, 2) };
    let ways = [
        GenerateOptions { speculate: Some(Speculate { draft_len: 2, ..Speculate::default() }), ..plain.clone() },
        GenerateOptions { pipeline: Some(Pipeline::default()), ..plain },
    ];
    for way in ways {
        let mut counts = vec![0.0; expected.len()];
        for seed in 0..seeds {
            let said = tokens(&mut model.session(zero(seed))?, &prompt, &way)?.0;
            let cell = expected.iter().position(|((first, second), _)| said == [*first, *second]);
            counts[cell.ok_or_else(|| anyhow!("{said:?} is not among {expected:?}"))?] += 1.0;
        }
        // Cells with low expected counts are merged.
        let (mut chi, mut rare) = (0.0, (0.0, 0.0));
        for (count, (_, probability)) in counts.iter().zip(&expected) {
            let mean = probability * seeds as f64;
            if mean < 5.0 {
                rare = (rare.0 + count, rare.1 + mean);
            } else {
                chi += (count - mean).powi(2) / mean;
            }
        }
        if rare.1 >= 1.0 {
            chi += (rare.0 - rare.1).powi(2) / rare.1;
        }
        ensure!(chi < 31.8, "χ² = {chi:.1} of {counts:?} for {expected:?}, {way:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn invalid_options_are_refused(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let (speculate, pipeline) = (Some(Speculate::default()), Some(Pipeline::default()));
    let plain = plain(Sampling::GREEDY, 4);
    let read_out = Some(Exit::new(Criterion::Kl));
    let draft = |draft_steps, draft_len, threshold| GenerateOptions {
        speculate: Some(Speculate { draft_steps, draft_len, threshold }),
        ..plain.clone()
    };
    let cases = [
        (GenerateOptions { speculate, pipeline, ..plain.clone() }, "cannot be combined"),
        (GenerateOptions { speculate, continuous: Some(ruminate::Continuous::Raw), ..plain.clone() }, "continuous"),
        (GenerateOptions { speculate, exit: read_out, ..plain.clone() }, "exit"),
        (GenerateOptions { pipeline, exit: read_out, ..plain.clone() }, "exit"),
        (draft(Some(0), 4, 1.0), "draft_steps"),
        (draft(Some(13), 4, 1.0), "draft_steps"),
        (draft(None, 0, 1.0), "draft_len"),
        (draft(None, 8, 1.0), "draft_len"),
        (draft(None, 4, f32::NAN), "verify_threshold"),
        (GenerateOptions { logprobs: Some(1), ..draft(None, 4, 0.5) }, "logprobs"),
        (GenerateOptions { pipeline: Some(Pipeline { every: Some(0) }), ..plain.clone() }, "pipeline"),
        (GenerateOptions { pipeline: Some(Pipeline { every: Some(1) }), ..plain.clone() }, "pipeline"),
    ];
    let mut session = model.session(invariant(1))?;
    for (options, part) in cases {
        let message = session.generate(prompt(1).as_slice(), &options).err().map(|error| error.to_string());
        ensure!(message.as_deref().is_some_and(|text| text.contains(part)), "{part}: {message:?}");
    }
    let shared = SessionOptions { share: KvShare::Steps(1), ..invariant(1) };
    let options = GenerateOptions { speculate, ..plain.clone() };
    let message = model.session(shared)?.generate(prompt(1).as_slice(), &options).err().map(|error| error.to_string());
    ensure!(message.as_deref().is_some_and(|text| text.contains("kv_share")), "{message:?}");
    for options in [options, GenerateOptions { pipeline, ..plain.clone() }] {
        let last = SessionOptions { lookup: Lookup::AlwaysLast, ..invariant(1) };
        let refused = model.session(last)?.generate(prompt(1).as_slice(), &options).err();
        let message = refused.map(|error| error.to_string());
        ensure!(message.as_deref().is_some_and(|text| text.contains("kv_lookup")), "{message:?}");
    }
    // The session is unchanged.
    tokens(&mut session, &prompt(1), &plain)?;
    Ok(())
}
