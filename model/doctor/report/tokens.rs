//! Stage that compares greedy tokens of small models on the device and on the CPU reference.
//!
//! The reference sums in another order and with more digits, so if two tokens are almost equally likely, the device may choose the other one. The reference's
//! logits for the two tokens show whether that is the case.

use ruminate_engine::Device;
use ruminate_engine::clock::Instant;
use ruminate_shaders::Dtype;

use super::{Examination, NO_TIME, TokenCheck};
use crate::arch::REPORTED_SMALL;
use crate::doctor::LOGITS;
use crate::error::Error;
use crate::generate::Prompt;
use crate::options::{GenerateOptions, LoadOptions, SessionOptions, State};
use crate::sampling::Sampling;
use crate::source::Source;
use crate::{Model, Session, Synthetic, demo};

/// Maximum difference between the reference's logits for two tokens that count as equally likely.
const NEAR: f64 = 0.02;
/// Number of tokens to generate.
const TOKENS: u32 = 16;
/// Number of tokens to generate in the short form.
const QUICK_TOKENS: u32 = 8;
/// Steps of the demo and of the small Huginn.
const STEPS: u32 = 16;
/// Number of prompt tokens of a synthetic model.
const PROMPT: u32 = 24;

/// A model to compare.
struct Subject {
    name: &'static str,
    source: Source,
    steps: u32,
    prompt: Option<&'static str>,
}

/// Compares tokens until there is no time left.
pub(super) fn compare(examination: &mut Examination<'_>) -> Result<(), Error> {
    let [huginn, ouro] = REPORTED_SMALL;
    let made = |shape: &str| Ok::<_, Error>(Synthetic::parse(shape)?.source());
    let subjects = [
        Subject { name: "demo", source: demo::source(), steps: STEPS, prompt: Some(demo::PROMPTS[0].0) },
        Subject { name: "small Huginn", source: made(huginn)?, steps: STEPS, prompt: None },
        Subject { name: "small Ouro", source: made(ouro)?, steps: 4, prompt: None },
    ];
    let mut last = 0.0;
    for dtype in [Dtype::Bf16, Dtype::Q8, Dtype::Q4] {
        for subject in &subjects {
            let what = format!("{} in {}", subject.name, dtype.name());
            if !examination.affords(last) {
                examination.skip(what, NO_TIME);
                continue;
            }
            examination.begin(what.clone());
            let begin = Instant::now();
            let device = examination.device()?;
            let tokens = if examination.options.quick { QUICK_TOKENS } else { TOKENS };
            let check = check(subject, dtype, tokens, &device)?;
            if !check.passed {
                examination.problem(verdict(&what, &check));
            }
            examination.report.tokens.push(check);
            last = begin.elapsed().as_secs_f64();
        }
    }
    Ok(())
}

/// Describes the problem of a check that did not pass.
fn verdict(what: &str, check: &TokenCheck) -> String {
    let TokenCheck { logits_error, logits_error_bound, equal, tokens, margin, .. } = check;
    if logits_error.is_nan() || logits_error > logits_error_bound {
        return format!(
            "{what}: normalized mean square error {logits_error:.1e} of the logits (expected at most {logits_error_bound:.0e})"
        );
    }
    let margin = margin.unwrap_or(f64::INFINITY);
    format!(
        "{what}: only the first {equal} of {tokens} tokens equal the reference's, and the next ones are not nearly tied (logits {margin:.3} apart)"
    )
}

/// Results of a model for its prompt.
struct Made {
    session: Session,
    prompt: Vec<u32>,
    logits: Vec<f32>,
    tokens: Vec<u32>,
}

fn check(subject: &Subject, dtype: Dtype, tokens: u32, device: &Device) -> Result<TokenCheck, Error> {
    let found = make(subject, dtype, tokens, device)?;
    let mut expected = make(subject, dtype, tokens, &Device::cpu())?;
    let logits_error = error(&found.logits, &expected.logits);
    let pairs = found.tokens.iter().zip(&expected.tokens);
    let equal = pairs.take_while(|(a, b)| a == b).count();
    let all = expected.tokens.len();
    let margin = match (found.tokens.get(equal), expected.tokens.get(equal)) {
        (Some(&found), Some(&wanted)) => Some(expected.margin(subject.steps, equal, [found, wanted])?),
        _ => None,
    };
    let same = if equal == all { found.tokens.len() == all } else { margin.is_some_and(|margin| margin < NEAR) };
    Ok(TokenCheck {
        model: subject.name.to_owned(),
        dtype: dtype.name().to_owned(),
        steps: subject.steps,
        tokens: all,
        equal,
        logits_error,
        logits_error_bound: LOGITS,
        margin,
        passed: same && logits_error <= LOGITS,
    })
}

fn make(subject: &Subject, dtype: Dtype, tokens: u32, device: &Device) -> Result<Made, Error> {
    let model = Model::open(&subject.source, device, LoadOptions { dtype: Some(dtype), ..LoadOptions::default() })?;
    let prompt = match subject.prompt {
        Some(text) => model.tokenizer().encode(text, crate::Specials::Bos)?,
        None => (0..PROMPT).map(|at| (at * 37 + at * at) % 1000).collect(),
    };
    let context = prompt.len() as u32 + tokens + 1;
    let mut session = model.session(SessionOptions { context: Some(context), ..SessionOptions::default() })?;
    let logits = session.forward(&prompt, subject.steps, State::Seeded, true)?;
    session.rewind(0)?;
    let options = GenerateOptions {
        steps: Some(subject.steps),
        max_tokens: Some(tokens),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    };
    let pieces = session.generate(Prompt::Tokens(&prompt), &options)?.collect::<Result<Vec<_>, _>>()?;
    Ok(Made { session, prompt, logits, tokens: pieces.into_iter().map(|piece| piece.token).collect() })
}

impl Made {
    /// Returns the difference between the logits of two tokens after the prompt and the first `after` generated tokens.
    fn margin(&mut self, steps: u32, after: usize, tokens: [u32; 2]) -> Result<f64, Error> {
        self.session.rewind(0)?;
        let all: Vec<u32> = self.prompt.iter().chain(&self.tokens[..after]).copied().collect();
        let logits = self.session.forward(&all, steps, State::Seeded, false)?;
        let [a, b] = tokens.map(|token| logits.get(token as usize).copied().map_or(f64::NAN, f64::from));
        Ok((a - b).abs())
    }
}

/// Normalized mean square error; infinite if a value is not finite or the lengths differ.
fn error(found: &[f32], expected: &[f32]) -> f64 {
    let pairs = || found.iter().zip(expected).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let difference: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    let power: f64 = pairs().map(|(_, b)| b * b).sum();
    let error = difference / power;
    if error.is_finite() && found.len() == expected.len() { error } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_that_are_no_numbers_are_infinitely_wrong() {
        assert_eq!(error(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
        assert!(error(&[1.0, f32::NAN], &[1.0, 2.0]).is_infinite());
        assert!(error(&[1.0], &[1.0, 2.0]).is_infinite());
    }

    #[test]
    fn verdict_names_what_is_wrong() {
        let check = TokenCheck {
            model: "demo".to_owned(),
            dtype: "q8".to_owned(),
            steps: 4,
            tokens: 16,
            equal: 3,
            logits_error: 1e-9,
            logits_error_bound: LOGITS,
            margin: Some(0.7),
            passed: false,
        };
        let said = verdict("demo in q8", &check);
        assert!(said.contains("3 of 16 tokens") && said.contains("0.700 apart"), "{said}");
        let said = verdict("demo in q8", &TokenCheck { logits_error: f64::INFINITY, ..check });
        assert!(said.contains("error inf of the logits"), "{said}");
    }
}
