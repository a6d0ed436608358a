//! Scores: the likelihood of a text is that of its tokens, one by one, and a model's distance from itself is nothing.

use anyhow::{Result, ensure};
use ruminate::score::{Score, windows};
use ruminate::statistics::log_probability;
use ruminate::{Device, Dtype, Error, LoadOptions, Model, Session, SessionOptions, Specials, State, Synthetic, demo};
use ruminate_tests::trial;

const STEPS: u32 = 5;

fn model(device: &Device, dtype: Dtype) -> Result<Model> {
    Ok(Model::demo(device, LoadOptions { dtype: Some(dtype), ..LoadOptions::default() })?)
}

fn session(model: &Model) -> Result<Session> {
    Ok(model.session(SessionOptions { seed: 3, ..SessionOptions::default() })?)
}

/// The demo's prompts as one text.
fn tokens(model: &Model) -> Result<Vec<u32>> {
    let text: String = demo::PROMPTS.iter().map(|(prompt, answer)| format!("{prompt} {answer}. ")).collect();
    let mut tokens = model.tokenizer().encode(&text, Specials::None)?;
    tokens.truncate(40);
    Ok(tokens)
}

/// Against one token at a time: no other batch, no window, no sum of this crate's.
#[trial(device, cpu, full)]
fn a_text_is_as_likely_as_its_tokens(device: &Device) -> Result<()> {
    let model = model(device, Dtype::F32)?;
    let tokens = tokens(&model)?;
    let mut expected = 0.0;
    let mut alone = session(&model)?;
    for pair in tokens.windows(2) {
        let logits = alone.forward(&pair[..1], STEPS, State::Seeded, true)?;
        expected -= f64::from(log_probability(&logits, pair[1] as usize));
    }
    let mut score = Score::default();
    session(&model)?.score(&tokens, STEPS, None, None, &mut score)?;
    ensure!(score.nll.count() == tokens.len() as u64 - 1 && score.divergence.is_none());
    let (found, expected) = (score.nll.mean(), expected / score.nll.count() as f64);
    ensure!((found - expected).abs() < 1e-3 * expected, "{found} nats a token, one by one {expected}");
    ensure!((score.perplexity().ln() - found).abs() < 1e-9);
    Ok(())
}

#[trial(device, cpu, full)]
fn a_model_is_no_distance_from_itself(device: &Device) -> Result<()> {
    let model = model(device, Dtype::Bf16)?;
    let mut score = Score::default();
    session(&model)?.score(&tokens(&model)?, STEPS, None, Some(&mut session(&model)?), &mut score)?;
    let apart = score.divergence.unwrap_or_default();
    ensure!(apart.kl.count() == score.nll.count() && apart.kl_most == 0.0, "{apart:?}");
    ensure!(apart.top_agreement() == 1.0 && apart.reference_nll.mean() == score.nll.mean());
    Ok(())
}

#[trial(device, cpu, full)]
fn a_coarser_model_is_some_distance_away(device: &Device) -> Result<()> {
    let fine = model(device, Dtype::F32)?;
    let tokens = tokens(&fine)?;
    let apart = |dtype| -> Result<f64> {
        let mut score = Score::default();
        session(&model(device, dtype)?)?.score(&tokens, STEPS, None, Some(&mut session(&fine)?), &mut score)?;
        Ok(score.divergence.unwrap_or_default().kl.mean())
    };
    let (q8, q4) = (apart(Dtype::Q8)?, apart(Dtype::Q4)?);
    ensure!(0.0 < q8 && q8 < q4 && q4 < 1.0, "KL of q8 {q8}, of q4 {q4}");
    Ok(())
}

/// Keys and values in q8 against f32, with the same weights: little, and nothing that accumulates over steps.
#[trial(device, cpu, full)]
fn a_coarser_cache_is_a_small_distance_away(device: &Device) -> Result<()> {
    let model = model(device, Dtype::F32)?;
    let cached = |kv_dtype| model.session(SessionOptions { seed: 3, kv_dtype, ..SessionOptions::default() });
    for steps in [1, STEPS, 32] {
        let mut score = Score::default();
        // One problem at a time, as the demo was trained.
        for (prompt, answer) in demo::PROMPTS {
            let tokens = model.tokenizer().encode(&format!("{prompt}{answer}"), Specials::Bos)?;
            cached(Dtype::Q8)?.score(&tokens, steps, None, Some(&mut cached(Dtype::F32)?), &mut score)?;
        }
        let apart = score.divergence.unwrap_or_default();
        ensure!(0.0 < apart.kl.mean() && apart.kl.mean() < 2e-3, "{steps} steps: KL {}", apart.kl.mean());
        ensure!(apart.top_agreement() > 0.9, "{steps} steps: {} of the tokens are the same", apart.top_agreement());
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn models_of_other_vocabularies_are_refused(device: &Device) -> Result<()> {
    let shape = Synthetic::parse("n_embd=64,heads=2,hidden=64,vocab=512,layers=1/1/1,block_size=64")?;
    let other = Model::open(&shape.source(), device, LoadOptions::default())?;
    let model = model(device, Dtype::Bf16)?;
    let done = session(&model)?.score(&[1, 2], 1, None, Some(&mut session(&other)?), &mut Score::default());
    ensure!(matches!(done, Err(Error::Option { name: "against", .. })), "{done:?}");
    Ok(())
}

/// Each token is an answer once, whatever the length of the windows.
#[trial]
fn windows_hold_every_token_once() -> Result<()> {
    let tokens: Vec<u32> = (10..33).collect();
    for length in 2..30 {
        let answers = |begin| -> Vec<u32> {
            let windows = windows(&tokens, begin, length);
            assert!(windows.iter().all(|window| (2..=length as usize).contains(&window.len())), "{windows:?}");
            windows.iter().flat_map(|window| &window[1..]).copied().collect()
        };
        ensure!(answers(Some(1)) == tokens && answers(None) == tokens[1..], "windows of {length}");
    }
    ensure!(windows(&[7], None, 8).is_empty() && windows(&[], Some(1), 8).is_empty());
    Ok(())
}
