//! Generation with the embedded demo: what the loop costs the host, and that results do not depend on how the work is split.

use std::time::Duration;

use anyhow::{Result, ensure};
use ruminate::{
    Counters, Dtype, GenerateOptions, Model, Progress, Prompt, Sampling, Session, SessionOptions, State, StopReason,
    demo,
};
use ruminate_engine::Device;
use ruminate_tests::{demo_model, greedy, prompt_of, tokens_of, trial};

const PROMPT: &str = demo::PROMPTS[0].0;

fn text(session: &mut Session, prompt: &str, options: &GenerateOptions) -> Result<String> {
    let pieces = session.generate(prompt, options)?;
    Ok(pieces.map(|piece| piece.map(|piece| piece.text)).collect::<Result<_, _>>()?)
}

#[trial(device, cpu)]
fn decode_step_waits_only_for_its_token(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut session = model.session(SessionOptions::default())?;
    let options = greedy(32, 12);
    let mut generation = session.generate(PROMPT, &options)?;
    // The first tokens record the plan and fill the ring of staging buffers.
    for _ in 0..4 {
        generation.next().transpose()?;
    }
    let before = device.counters();
    for _ in 0..4 {
        generation.next().transpose()?;
    }
    let Counters { waits, read_backs, launches, pipelines, buffers, bind_groups, submissions, .. } =
        device.counters() - before;
    ensure!(read_backs == 4 || device.is_cpu(), "{read_backs} read-backs for 4 tokens");
    ensure!(waits <= 4, "{waits} waits for 4 tokens");
    ensure!(pipelines + buffers + bind_groups == 0, "created {pipelines}, {buffers}, {bind_groups}");
    ensure!(launches >= 4 * 32 * 10, "{launches} launches are too few for 4 tokens of 32 steps");
    ensure!(device.is_cpu() || submissions >= 4, "{submissions} submissions");
    Ok(())
}

#[trial(device, cpu, full)]
fn demo_answers_are_right_only_with_many_steps(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for (prompt, right) in demo::PROMPTS {
        for (steps, expected) in [(1, false), (32, true)] {
            let mut session = model.session(SessionOptions::default())?;
            let options = GenerateOptions { end_tokens: None, ..greedy(steps, 8) };
            let answer = text(&mut session, prompt, &options)?;
            ensure!((answer.trim() == right.trim()) == expected, "{prompt} at {steps} steps: {answer:?}");
        }
    }
    Ok(())
}

#[trial(device, cpu)]
fn tokens_depend_on_seed(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let sampling = Sampling { temperature: 3.0, repeat_penalty: 1.1, ..Sampling::GREEDY };
    let run = |seed| {
        let mut session = model.session(SessionOptions { seed, ..SessionOptions::default() })?;
        tokens_of(&mut session, PROMPT, &GenerateOptions { sampling, ..greedy(2, 16) })
    };
    let (first, second, other) = (run(1)?, run(1)?, run(2)?);
    ensure!(first == second, "seed 1 gave {first:?} and {second:?}");
    ensure!(first != other, "seeds 1 and 2 both gave {first:?}");
    Ok(())
}

fn close(found: &[f32], expected: &[f32]) -> Result<()> {
    ruminate_tests::compare(found, expected, 1e-8)
}

fn session(model: &Model) -> Result<Session> {
    let options = SessionOptions { kv_dtype: Dtype::F32, ..SessionOptions::default() };
    Ok(model.session(options)?)
}

#[trial(device, cpu, full)]
fn chunked_prompt_gives_same_logits_as_one_pass(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all = prompt_of(300);
    let whole = session(&model)?.forward(&all, 2, State::Seeded, false)?;
    let mut session = session(&model)?;
    session.forward(&all[..259], 2, State::Seeded, false)?;
    session.forward(&all[259..297], 2, State::Seeded, false)?;
    session.forward(&all[297..299], 2, State::Seeded, false)?;
    close(&session.forward(&all[299..], 2, State::Seeded, false)?, &whole)
}

#[trial(device, cpu, full)]
fn growing_cache_gives_same_logits_as_large_one(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all = prompt_of(220);
    let mut grown = session(&model)?;
    let mut logits = Vec::new();
    for chunk in all.chunks(60) {
        logits = grown.forward(chunk, 10, State::Seeded, false)?;
    }
    let mut large = session(&model)?;
    // The first pass reserves most positions at once.
    large.forward(&all[..200], 10, State::Seeded, false)?;
    close(&large.forward(&all[200..], 10, State::Seeded, false)?, &logits)?;
    ensure!(grown.kv_bytes() > 220 * 10 * 2 * 2 * 96 * 4, "{} bytes cannot hold 220 positions", grown.kv_bytes());
    Ok(())
}

fn quantized(model: &Model) -> Result<Session> {
    Ok(model.session(SessionOptions { kv_dtype: Dtype::Q8, ..SessionOptions::default() })?)
}

#[trial(device, cpu, full)]
fn q8_cache_gives_same_answers_as_f32(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    for (prompt, right) in demo::PROMPTS {
        let options = GenerateOptions { end_tokens: None, ..greedy(32, 8) };
        let answer = text(&mut quantized(&model)?, prompt, &options)?;
        ensure!(answer.trim() == right.trim(), "{prompt}: {answer:?}");
        let expected = text(&mut session(&model)?, prompt, &options)?;
        ensure!(answer == expected, "{prompt}: {answer:?}, in f32 {expected:?}");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn q8_cache_supports_rewind_growth_and_chunks(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all = prompt_of(120);
    let mut session = quantized(&model)?;
    let whole = session.forward(&all, 6, State::Seeded, false)?;
    let bytes = session.kv_bytes();
    session.rewind(0)?;
    ensure!(
        session.forward(&all, 6, State::Seeded, false)? == whole,
        "the same pass after a rewind gives other logits"
    );
    session.rewind(70)?;
    // Single rows use another kernel; where sums differ in the last bit, a number can be quantized to its neighbor.
    let mut single = Vec::new();
    for token in &all[70..] {
        single = session.forward(&[*token], 6, State::Seeded, false)?;
    }
    ruminate_tests::compare(&single, &whole, 1e-4)?;
    let mut grown = quantized(&model)?;
    for chunk in all.chunks(33) {
        single = grown.forward(chunk, 6, State::Seeded, false)?;
    }
    ruminate_tests::compare(&single, &whole, 1e-4)?;
    let mut wide = self::session(&model)?;
    wide.forward(&all, 6, State::Seeded, false)?;
    ensure!(bytes < wide.kv_bytes(), "{bytes} bytes in q8, {} in f32", wide.kv_bytes());
    Ok(())
}

#[trial(device, cpu, full)]
fn deeper_pass_widens_cache_tables(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let all = prompt_of(40);
    let deep = model.spec().steps.default + 20;
    let run = |first: u32| -> Result<Vec<f32>> {
        let mut session = session(&model)?;
        session.forward(&all[..1], first, State::Seeded, false)?;
        session.rewind(0)?;
        Ok(session.forward(&all, deep, State::Seeded, false)?)
    };
    close(&run(2)?, &run(deep)?)
}

#[trial(device, cpu, full)]
fn dropped_generation_continues_with_same_tokens(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let whole = tokens_of(&mut session(&model)?, PROMPT, &greedy(4, 12))?;
    let mut session = session(&model)?;
    let mut generation = session.generate(PROMPT, &greedy(4, 12))?;
    let first: Vec<u32> =
        generation.by_ref().take(5).map(|piece| piece.map(|piece| piece.token)).collect::<Result<_, _>>()?;
    drop(generation);
    ensure!(first == whole[..5], "{first:?} is not the start of {whole:?}");
    let rest: Vec<u32> = session
        .generate(Prompt::Continue, &greedy(4, 7))?
        .map(|piece| piece.map(|piece| piece.token))
        .collect::<Result<_, _>>()?;
    ensure!(rest == whole[5..], "{rest:?} does not continue {whole:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn each_end_of_generation_has_its_stop_reason(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let end = |options: GenerateOptions, context| -> Result<(String, Option<StopReason>)> {
        let mut session = model.session(SessionOptions { context, ..SessionOptions::default() })?;
        let mut generation = session.generate(PROMPT, &options)?;
        let text = generation.by_ref().map(|piece| piece.map(|piece| piece.text)).collect::<Result<_, _>>()?;
        Ok((text, generation.stop_reason()))
    };
    let stop = GenerateOptions { stop: vec!["A.".to_owned()], ..greedy(32, 8) };
    let (text, reason) = end(stop, None)?;
    ensure!(text == " " && reason == Some(StopReason::StopString), "{text:?}, {reason:?}");
    let (_, reason) = end(greedy(32, 3), None)?;
    ensure!(reason == Some(StopReason::MaxTokens), "{reason:?}");
    let (_, reason) = end(GenerateOptions { max_tokens: None, ..greedy(2, 1) }, Some(64))?;
    ensure!(reason == Some(StopReason::ContextFull), "{reason:?}");
    let (_, reason) = end(GenerateOptions { end_tokens: None, ..greedy(32, 8) }, None)?;
    ensure!(matches!(reason, Some(StopReason::EndToken(_))), "{reason:?}");
    Ok(())
}

#[trial(device, cpu, full)]
fn bounded_steps_generate_same_tokens_as_iterator(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let expected = tokens_of(&mut session(&model)?, PROMPT, &greedy(4, 6))?;
    // Budgets from one launch per call to more than those of a token.
    for budget in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(10)] {
        let mut session = session(&model)?;
        let mut generation = session.generate(PROMPT, &greedy(4, 6))?;
        let mut found = Vec::new();
        let reason = loop {
            match generation.step(budget)? {
                Progress::Token(piece) => found.push(piece.token),
                Progress::Done(reason) => break reason,
                _ => {}
            }
        };
        ensure!(found == expected, "{found:?} with {budget:?}, expected {expected:?}");
        ensure!(reason == StopReason::MaxTokens && generation.stop_reason() == Some(reason), "{reason:?}");
        ensure!(
            generation.step(budget)? == Progress::Done(reason) && generation.next().is_none(),
            "the generation continued"
        );
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn invalid_requests_leave_session_usable(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let mut session = model.session(SessionOptions { context: Some(32), ..SessionOptions::default() })?;
    let message = |outcome: Result<Vec<f32>, ruminate::Error>| outcome.err().map(|error| error.to_string());
    let cases = [
        (message(session.forward(&prompt_of(33), 1, State::Seeded, false)), "33 tokens do not fit the context of 32"),
        (message(session.forward(&[], 1, State::Seeded, false)), "prompt is empty"),
        (message(session.forward(&[9999], 1, State::Seeded, false)), "token id 9999"),
        (message(session.forward(&[1], 0, State::Seeded, false)), "steps is 0"),
        (message(session.forward(&[1], 1, State::Given(&[0.0; 3]), false)), "3 values, expected 96"),
        (message(session.states()), "begin"),
    ];
    for (found, expected) in cases {
        ensure!(found.as_ref().is_some_and(|text| text.contains(expected)), "{found:?} does not contain {expected:?}");
    }
    let nan = Sampling { temperature: f32::NAN, ..Sampling::GREEDY };
    let refused = session.generate(PROMPT, &GenerateOptions { sampling: nan, ..greedy(1, 1) }).err();
    ensure!(refused.is_some_and(|error| error.to_string().contains("temperature")), "NaN was accepted");
    let nibbles = SessionOptions { kv_dtype: Dtype::Q4, ..SessionOptions::default() };
    let refused = model.session(nibbles).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("kv_dtype is q4") && refused.contains("f32, bf16 or q8"), "q4: {refused:?}");
    ensure!(
        model.session(SessionOptions { context: Some(100_000), ..SessionOptions::default() }).is_err(),
        "a context of 100000 was accepted"
    );
    session.forward(&prompt_of(32), 1, State::Seeded, false)?;
    Ok(())
}

#[trial(device, cpu, full)]
fn dropped_models_free_all_buffers(device: &Device) -> Result<()> {
    let before = device.counters();
    let model = demo_model(device)?;
    let mut session = model.session(SessionOptions::default())?;
    tokens_of(&mut session, PROMPT, &greedy(2, 3))?;
    ensure!(device.counters().live_bytes > 1_000_000, "the model uses no memory");
    drop((session, model));
    let left = device.counters();
    ensure!(left.live_buffers == before.live_buffers, "{} buffers are left", left.live_buffers - before.live_buffers);
    Ok(())
}
