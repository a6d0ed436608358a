//! Scores: a text is as likely as its tokens one by one, and a model's divergence from itself is zero.

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

/// The first 40 tokens of the demo's prompts and answers.
fn tokens(model: &Model) -> Result<Vec<u32>> {
    let text: String = demo::PROMPTS.iter().map(|(prompt, answer)| format!("{prompt} {answer}. ")).collect();
    let mut tokens = model.tokenizer().encode(&text, Specials::None)?;
    tokens.truncate(40);
    Ok(tokens)
}

/// Compares with passes of one token, which involve no batch, no windows and no sums of this crate.
#[trial(device, cpu, full)]
fn text_score_matches_single_tokens(device: &Device) -> Result<()> {
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
    ensure!((found - expected).abs() < 1e-3 * expected, "{found} nats per token, one by one {expected}");
    ensure!((score.perplexity().ln() - found).abs() < 1e-9);
    Ok(())
}

#[trial(device, cpu, full)]
fn model_has_zero_divergence_from_itself(device: &Device) -> Result<()> {
    let model = model(device, Dtype::Bf16)?;
    let mut score = Score::default();
    session(&model)?.score(&tokens(&model)?, STEPS, None, Some(&mut session(&model)?), &mut score)?;
    let apart = score.divergence.unwrap_or_default();
    ensure!(apart.kl.count() == score.nll.count() && apart.kl_most == 0.0, "{apart:?}");
    ensure!(apart.top_agreement() == 1.0 && apart.reference_nll.mean() == score.nll.mean());
    Ok(())
}

#[trial(device, cpu, full)]
fn divergence_grows_with_coarser_weights(device: &Device) -> Result<()> {
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

/// Keys and values in q8 differ little from f32 with the same weights, and the difference does not accumulate over steps.
#[trial(device, cpu, full)]
fn q8_cache_has_small_divergence(device: &Device) -> Result<()> {
    let model = model(device, Dtype::F32)?;
    let cached = |kv_dtype| model.session(SessionOptions { seed: 3, kv_dtype, ..SessionOptions::default() });
    for steps in [1, STEPS, 32] {
        let mut score = Score::default();
        // One problem per text, because the demo was trained on single problems.
        for (prompt, answer) in demo::PROMPTS {
            let tokens = model.tokenizer().encode(&format!("{prompt}{answer}"), Specials::Bos)?;
            cached(Dtype::Q8)?.score(&tokens, steps, None, Some(&mut cached(Dtype::F32)?), &mut score)?;
        }
        let apart = score.divergence.unwrap_or_default();
        ensure!(0.0 < apart.kl.mean() && apart.kl.mean() < 2e-3, "{steps} steps: KL {}", apart.kl.mean());
        ensure!(apart.top_agreement() > 0.9, "{steps} steps: only {} of the top tokens agree", apart.top_agreement());
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn reference_with_other_vocabulary_is_refused(device: &Device) -> Result<()> {
    let shape = Synthetic::parse("n_embd=64,heads=2,hidden=64,vocab=512,layers=1/1/1,block_size=64")?;
    let other = Model::open(&shape.source(), device, LoadOptions::default())?;
    let model = model(device, Dtype::Bf16)?;
    let done = session(&model)?.score(&[1, 2], 1, None, Some(&mut session(&other)?), &mut Score::default());
    ensure!(matches!(done, Err(Error::Option { name: "against", .. })), "{done:?}");
    Ok(())
}

/// Each token is scored exactly once, whatever the length of the windows.
#[trial]
fn windows_score_every_token_once() -> Result<()> {
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
