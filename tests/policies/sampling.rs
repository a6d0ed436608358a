//! Token choice in a generation: the tests repeat the device's edits of the logits in plain code on the logits of single passes.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ruminate::{
    Counters, Dry, Dtype, GenerateOptions, Model, Piece, Pipeline, Progress, Sampling, Session, SessionOptions,
    Speculate, State,
};
use ruminate_engine::Device;
use ruminate_tests::{demo_model, trial};

/// A prompt of the demo's token ids that repeats a passage three times.
fn prompt() -> Vec<u32> {
    [21, 22, 23, 24, 25, 300].repeat(3)
}

fn session(model: &Model) -> Result<Session> {
    Ok(model.session(SessionOptions { kv_dtype: Dtype::F32, ..SessionOptions::default() })?)
}

fn options(sampling: Sampling, tokens: u32) -> GenerateOptions {
    GenerateOptions {
        steps: Some(3),
        max_tokens: Some(tokens),
        sampling,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    }
}

fn pieces(model: &Model, options: &GenerateOptions) -> Result<Vec<Piece>> {
    let prompt = prompt();
    Ok(session(model)?.generate(&prompt[..], options)?.collect::<Result<_, _>>()?)
}

fn tokens(pieces: &[Piece]) -> Vec<u32> {
    pieces.iter().map(|piece| piece.token).collect()
}

/// The logits from which each token of a generation was chosen, computed by single passes.
fn logits_of(model: &Model, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut session = session(model)?;
    let mut all = vec![session.forward(&prompt(), 3, State::Seeded, false)?];
    for token in &tokens[..tokens.len() - 1] {
        all.push(session.forward(&[*token], 3, State::Seeded, false)?);
    }
    Ok(all)
}

/// Logits after bias, repetition penalty and DRY without breakers.
fn edited(logits: &[f32], past: &[u32], options: &GenerateOptions) -> Vec<f32> {
    let Sampling { repeat_penalty, penalty_window, dry, .. } = options.sampling;
    let last = |window: u32| &past[if window == 0 { 0 } else { past.len().saturating_sub(window as usize) }..];
    let mut found = logits.to_vec();
    for &(token, value) in &options.logit_bias {
        found[token as usize] += value;
    }
    let held = last(penalty_window);
    for (_, logit) in (0..).zip(&mut found).filter(|(token, _)| held.contains(token)) {
        *logit = if *logit > 0.0 { *logit / repeat_penalty } else { *logit * repeat_penalty };
    }
    let seen = last(dry.range);
    let mut lengths: HashMap<u32, u32> = HashMap::new();
    for next in 1..seen.len() {
        let length = (0..next).take_while(|n| seen[next - 1 - n] == seen[seen.len() - 1 - n]).count() as u32;
        let most = lengths.entry(seen[next]).or_insert(0);
        *most = length.max(*most);
    }
    for (token, length) in lengths {
        if let Some(over) = length.checked_sub(dry.allowed_length) {
            found[token as usize] -= dry.multiplier * dry.base.powf(over as f32);
        }
    }
    found
}

#[trial(device, cpu, full)]
fn greedy_takes_most_likely_edited_token(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let greedy = Sampling::GREEDY;
    let strong = Dry { multiplier: 3.0, ..Dry::ON };
    let settings = [
        Sampling { repeat_penalty: 1.7, ..greedy },
        Sampling { repeat_penalty: 1.7, penalty_window: 3, ..greedy },
        Sampling { repeat_penalty: 0.8, penalty_window: 1, ..greedy },
        Sampling { dry: strong, ..greedy },
        Sampling { dry: Dry { range: 7, allowed_length: 1, ..strong }, ..greedy },
        Sampling { dry: strong, repeat_penalty: 1.2, penalty_window: 5, ..greedy },
    ];
    let plain = tokens(&pieces(&model, &options(greedy, 12))?);
    let mut others = 0;
    for sampling in settings {
        let bias = if sampling.repeat_penalty == 1.2 { vec![(300, 4.0), (plain[0], -2.5)] } else { Vec::new() };
        let asked = GenerateOptions { logit_bias: bias, dry_breakers: Vec::new(), ..options(sampling, 12) };
        let found = tokens(&pieces(&model, &asked)?);
        others += u32::from(found != plain);
        let mut past = prompt();
        for (place, logits) in logits_of(&model, &found)?.iter().enumerate() {
            let scores = edited(logits, &past, &asked);
            let best = scores.iter().copied().fold(f32::MIN, f32::max);
            let score = scores[found[place] as usize];
            ensure!(score >= best - 1e-3, "{sampling:?}: token {place} has {score}, the best {best}");
            past.push(found[place]);
        }
    }
    ensure!(others >= 4, "only {others} settings made a difference");
    Ok(())
}

/// The length of the longest passage that occurs twice.
fn longest_repeat(text: &[u32]) -> usize {
    let at = |i: usize, j: usize| text[i..].iter().zip(&text[j..]).take_while(|(a, b)| a == b).count();
    (0..text.len()).flat_map(|i| (i + 1..text.len()).map(move |j| at(i, j))).max().unwrap_or(0)
}

#[trial(device, cpu, full)]
fn dry_stops_repeated_passages(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let vocab = model.spec().padded_vocab;
    // With few tokens to choose from, the model repeats itself without a penalty.
    let logit_bias: Vec<_> =
        (0..vocab).filter(|token| !(21..25).contains(token)).map(|token| (token, f32::NEG_INFINITY)).collect();
    let run = |dry| {
        let sampling = Sampling { dry, ..Sampling::GREEDY };
        let asked = GenerateOptions { logit_bias: logit_bias.clone(), ..options(sampling, 48) };
        let found = tokens(&pieces(&model, &asked)?);
        ensure!(found.iter().all(|token| (21..25).contains(token)), "a banned token was generated: {found:?}");
        Ok(longest_repeat(&found))
    };
    let (free, penalized) = (run(Dry::OFF)?, run(Dry { multiplier: 20.0, ..Dry::ON })?);
    ensure!(free >= 15 && penalized <= 6, "a repeated passage of {free} tokens without DRY, of {penalized} with it");
    Ok(())
}

#[trial(device, cpu, full)]
fn dry_breakers_are_tokens_that_contain_the_text(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let tokenizer = model.tokenizer();
    let text = prompt().iter().map(|token| tokenizer.decode(&[*token], false)).find(|text| !text.is_empty());
    let text = text.context("every token of the prompt decodes to an empty text")?;
    ensure!(
        tokenizer.holding(&text).iter().any(|token| prompt().contains(token)),
        "no token of the prompt contains {text:?}"
    );
    let run = |dry_breakers: Vec<String>, dry| {
        let asked = GenerateOptions { dry_breakers, ..options(Sampling { dry, ..Sampling::GREEDY }, 10) };
        Ok::<_, anyhow::Error>(tokens(&pieces(&model, &asked)?))
    };
    // If every token is a breaker, there are no repetitions.
    let all: Vec<String> = (0..=u8::MAX).filter(u8::is_ascii).map(|byte| char::from(byte).to_string()).collect();
    let strong = Dry { multiplier: 30.0, allowed_length: 1, ..Dry::ON };
    let plain = run(Vec::new(), Dry::OFF)?;
    let printable = plain.iter().chain(&prompt()).all(|&token| !tokenizer.decode(&[token], false).is_empty());
    ensure!(printable, "tokens without text: {plain:?}");
    ensure!(run(all, strong)? == plain, "DRY found a repetition across breakers");
    ensure!(run(Vec::new(), strong)? != plain, "DRY changes nothing");
    Ok(())
}

#[trial(device, cpu)]
fn banned_tokens_never_appear_and_forced_ones_always(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let plain = tokens(&pieces(&model, &options(Sampling::GREEDY, 8))?);
    let warm = Sampling { temperature: 1.5, ..Sampling::GREEDY };
    let penal = Sampling { repeat_penalty: 1.3, dry: Dry { multiplier: 1e6, base: 10.0, ..Dry::ON }, ..warm };
    for sampling in [Sampling::GREEDY, warm, penal, Sampling { temperature: 1e-30, ..warm }] {
        let with = |logit_bias| {
            let found = pieces(&model, &GenerateOptions { logit_bias, ..options(sampling, 8) })?;
            Ok::<_, anyhow::Error>(tokens(&found))
        };
        let mut unlike: Vec<u32> = plain.clone();
        unlike.sort_unstable();
        unlike.dedup();
        let found = with(unlike.iter().map(|&token| (token, f32::NEG_INFINITY)).collect())?;
        ensure!(
            found.iter().all(|token| !plain.contains(token)),
            "{sampling:?}: {found:?} has tokens of {plain:?}, which are banned"
        );
        let found = with(vec![(77, f32::INFINITY), (plain[0], 1e6)])?;
        ensure!(found == [77; 8], "{sampling:?}: {found:?}, but token 77 is forced");
    }
    Ok(())
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let total: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    logits.iter().map(|&logit| f64::from(logit) - largest - total.ln()).collect()
}

#[trial(device, cpu, full)]
fn logprobs_match_single_passes(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let warm = Sampling { temperature: 1.5, top_k: 30, ..Sampling::GREEDY };
    let penal = Sampling { repeat_penalty: 1.3, dry: Dry::ON, ..warm };
    let greedy = Sampling { temperature: 0.0, ..penal };
    for (sampling, count) in [(Sampling::GREEDY, 0), (Sampling::GREEDY, 20), (warm, 3), (penal, 7), (greedy, 2)] {
        let asked = GenerateOptions { logprobs: Some(count), ..options(sampling, 6) };
        let found = pieces(&model, &asked)?;
        let silent = pieces(&model, &GenerateOptions { logprobs: None, ..asked })?;
        ensure!(tokens(&silent) == tokens(&found), "log-probabilities change the tokens");
        ensure!(
            silent.iter().all(|piece| piece.logprob.is_none() && piece.top.is_empty()),
            "log-probabilities that were not requested"
        );
        for (piece, logits) in found.iter().zip(logits_of(&model, &tokens(&found))?) {
            let expected = log_softmax(&logits);
            let close = |token: u32, logprob: f32| {
                let expected = expected[token as usize];
                ensure!((f64::from(logprob) - expected).abs() < 2e-3, "token {token}: {logprob}, expected {expected}");
                Ok(())
            };
            close(piece.token, piece.logprob.context("no log-probability")?)?;
            ensure!(piece.top.len() == count as usize, "{} of {count}", piece.top.len());
            piece.top.iter().try_for_each(|&(token, logprob)| close(token, logprob))?;
            ensure!(piece.top.is_sorted_by(|a, b| a.1 >= b.1), "{:?} is not in order", piece.top);
            let mut ranks = expected;
            ranks.sort_by(|a, b| b.total_cmp(a));
            for (&(_, logprob), rank) in piece.top.iter().zip(ranks) {
                ensure!((f64::from(logprob) - rank).abs() < 2e-3, "{logprob} at a rank of {rank}");
            }
        }
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn bounded_steps_give_same_logprobs_as_iterator(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let asked = GenerateOptions { logprobs: Some(4), ..options(Sampling::default(), 5) };
    let expected = pieces(&model, &asked)?;
    let (mut session, prompt, mut found) = (session(&model)?, prompt(), Vec::new());
    let mut generation = session.generate(&prompt[..], &asked)?;
    loop {
        match generation.step(Duration::from_millis(2))? {
            Progress::Token(piece) => found.push(piece),
            Progress::Done(_) => break,
            _ => {}
        }
    }
    ensure!(found == expected, "{found:?}, expected {expected:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn computing_ahead_uses_same_edited_logits(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let prompt = prompt();
    let dry = Dry { allowed_length: 1, ..Dry::ON };
    let penal = Sampling { repeat_penalty: 1.2, penalty_window: 9, dry, ..Sampling::GREEDY };
    for sampling in [penal, Sampling { temperature: 1.5, ..penal }] {
        let asked = GenerateOptions { logit_bias: vec![(300, 2.0), (21, -1.0)], ..options(sampling, 14) };
        let run = |asked: &GenerateOptions| {
            let settings = SessionOptions { invariant: true, kv_dtype: Dtype::F32, ..SessionOptions::default() };
            let found: Vec<Piece> = model.session(settings)?.generate(&prompt[..], asked)?.collect::<Result<_, _>>()?;
            Ok::<_, anyhow::Error>(tokens(&found))
        };
        let expected = run(&asked)?;
        let drafts = Some(Speculate { draft_steps: Some(1), draft_len: 3, threshold: 1.0 });
        let others = [
            GenerateOptions { speculate: drafts, ..asked.clone() },
            GenerateOptions { pipeline: Some(Pipeline { every: Some(1) }), ..asked.clone() },
        ];
        for other in others {
            let found = run(&other)?;
            ensure!(found == expected, "{found:?} ahead, {expected:?} one by one");
        }
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn sampling_options_cost_launches_only_when_set(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let launches = |asked: &GenerateOptions| {
        let (mut session, prompt) = (session(&model)?, prompt());
        let mut generation = session.generate(&prompt[..], asked)?;
        // The first tokens record the plan and fill the ring of staging buffers.
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
        Ok(launches)
    };
    let greedy = options(Sampling::GREEDY, 10);
    let penal = options(Sampling { dry: Dry::ON, ..Sampling::GREEDY }, 10);
    let drawn = options(Sampling::default(), 10);
    let ranked = |asked: &GenerateOptions| GenerateOptions { logprobs: Some(5), ..asked.clone() };
    let plain = launches(&greedy)?;
    let cases = [
        ("drawing", &drawn, 0),
        ("penalties", &penal, 4),
        ("log-probabilities", &ranked(&greedy), 4),
        ("penalties and log-probabilities", &ranked(&penal), 8),
        ("log-probabilities of a draw", &ranked(&drawn), 8),
    ];
    for (name, asked, more) in cases {
        let found = launches(asked)?;
        ensure!(found == plain + more, "{name}: {found} launches for 4 tokens, {plain} without it");
    }
    Ok(())
}

#[trial(device, full)]
fn cpu_reference_draws_same_tokens_as_device(device: &Device) -> Result<()> {
    let dry = Dry { allowed_length: 1, ..Dry::ON };
    let sampling = Sampling { repeat_penalty: 1.2, penalty_window: 9, dry, ..Sampling::default() };
    let asked = GenerateOptions {
        logit_bias: vec![(300, 2.0), (5, f32::NEG_INFINITY), (21, -1.0)],
        logprobs: Some(3),
        ..options(Sampling { temperature: 2.0, ..sampling }, 12)
    };
    let run = |device| pieces(&demo_model(device)?, &asked);
    let (found, expected) = (run(device)?, run(&Device::cpu())?);
    ensure!(
        tokens(&found) == tokens(&expected),
        "{:?} on the device, {:?} by the CPU reference",
        tokens(&found),
        tokens(&expected)
    );
    Ok(())
}

#[trial(device, cpu, full)]
fn invalid_requests_name_option_value_and_range(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let vocab = model.spec().padded_vocab;
    let dry = |dry| options(Sampling { dry, ..Sampling::GREEDY }, 1);
    let bias = |logit_bias| GenerateOptions { logit_bias, ..options(Sampling::GREEDY, 1) };
    let cases = [
        (dry(Dry { multiplier: -1.0, ..Dry::ON }), "dry multiplier is -1; between 0 and 1000000"),
        (dry(Dry { multiplier: f32::NAN, ..Dry::ON }), "dry multiplier is NaN; between"),
        (dry(Dry { base: 0.5, ..Dry::ON }), "dry base is 0.5; between 1 and"),
        (dry(Dry { allowed_length: 0, ..Dry::ON }), "dry allowed_length is 0; from 1 to 1024"),
        (bias(vec![(vocab, 1.0)]), "token id"),
        (bias(vec![(1, f32::NAN)]), "logit_bias is NaN for token 1; a number"),
        (bias(vec![(1, 1.0), (2, 1.0), (1, 2.0)]), "logit_bias is given twice for token 1; one value"),
        (bias((0..vocab).map(|token| (token, f32::NEG_INFINITY)).collect()), "ban of all tokens; at least one"),
        (GenerateOptions { logprobs: Some(21), ..options(Sampling::GREEDY, 1) }, "logprobs is 21; from 0 to 20"),
        (GenerateOptions { dry_breakers: vec![String::new()], ..dry(Dry::ON) }, "dry_breakers is \"\"; not empty"),
    ];
    for (asked, expected) in cases {
        let Err(error) = pieces(&model, &asked) else { bail!("{expected}: accepted") };
        let text = error.to_string();
        ensure!(expected.split("; ").all(|part| text.contains(part)), "{text:?} does not contain {expected:?}");
    }
    Ok(())
}
