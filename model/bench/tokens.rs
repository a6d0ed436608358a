//! Times whole tokens, in prompts and in decoding, at several depths, and the minimum time that their weights need.

use std::time::Duration;

use ruminate_engine::bench::{Ceilings, Sample};

use crate::error::Error;
use crate::generate::Statistics;
use crate::model::Model;
use crate::options::{GenerateOptions, SessionOptions};
use crate::sampling::Sampling;
use crate::session::{MAX_ROWS, Session};

/// Minimum length of a prompt that is shortened for lack of time. Shorter prompts are not computed like long ones.
const LEAST_PROMPT: u32 = 32;
/// Minimum number of tokens decoded.
const LEAST_DECODED: u32 = 2;
/// Number of tokens in the trial run from which the other times are estimated.
const TRIAL: u32 = 16;

/// Part of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A prompt, read in passes of many rows.
    Prefill,
    /// Decoding, one token after the other.
    Decode,
}

/// Options of [`tokens`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Tokens of the prompt; 0 to skip prompts.
    pub prefill: u32,
    /// Tokens decoded; 0 to skip decoding.
    pub decode: u32,
    /// Numbers of recurrence steps.
    pub steps: Vec<u32>,
    /// Measurements of each time.
    pub repetitions: u32,
    /// Estimated time limit of all measurements. If it is too short, there are fewer tokens, and then fewer repetitions.
    pub budget: Duration,
}

impl Tokens {
    /// Positions that a session needs for the measurements.
    #[must_use]
    pub fn context(&self) -> u32 {
        self.prefill.max(self.decode.saturating_add(1)).max(TRIAL).saturating_add(1)
    }
}

/// Measured time of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenTiming {
    /// Part of the generation.
    pub phase: Phase,
    /// Tokens per measurement; fewer than requested if time was short.
    pub tokens: u32,
    /// Number of recurrence steps.
    pub steps: u32,
    /// Bytes of weights read per token.
    pub bytes: f64,
    /// Floating-point operations with weights per token.
    pub flops: f64,
    /// Seconds per token.
    pub time: Sample,
    /// Median seconds per token that the host spent on encoding.
    pub host: f64,
}

impl TokenTiming {
    /// Makes a timing from a measured `time` and `host`, both in seconds per token.
    pub(crate) fn new(model: &Model, phase: Phase, tokens: u32, steps: u32, time: Sample, host: f64) -> Self {
        let passes = if phase == Phase::Prefill { tokens.div_ceil(MAX_ROWS) } else { tokens };
        let bytes = model.bytes_per_token(steps) as f64 * f64::from(passes) / f64::from(tokens);
        let flops = 2.0 * model.spec().weights_per_token(steps, phase == Phase::Decode) as f64;
        Self { phase, tokens, steps, bytes, flops, time, host }
    }

    /// Minimum seconds per token for reading the weights or computing with them, whichever takes longer.
    #[must_use]
    pub fn bound(&self, ceilings: &Ceilings) -> f64 {
        (self.bytes * ceilings.read()).max(self.flops * ceilings.compute())
    }
}

/// Times the tokens of a model. `done` gets each timing. If it returns false, no more are measured.
///
/// # Errors
/// If the session is too large, or a fault of the device.
pub fn tokens(model: &Model, asked: &Tokens, done: &mut dyn FnMut(TokenTiming) -> bool) -> Result<(), Error> {
    let (Some(&deepest), Some(&flattest)) = (asked.steps.iter().max(), asked.steps.iter().min()) else {
        return Ok(());
    };
    let options = SessionOptions { context: Some(asked.context()), steps: Some(deepest), ..SessionOptions::default() };
    let mut session = model.session(options)?;
    let phases = [(Phase::Prefill, asked.prefill, LEAST_PROMPT), (Phase::Decode, asked.decode, LEAST_DECODED)];
    let wanted = phases.into_iter().filter(|&(_, tokens, _)| tokens > 0);
    let budget = asked.budget.as_secs_f64() / (wanted.clone().count() * asked.steps.len()).max(1) as f64;
    for (phase, most, least) in wanted {
        let weights = |steps| model.spec().weights_per_token(steps, phase == Phase::Decode) as f64;
        let trial = TRIAL.min(most);
        // The first run compiles kernels.
        time(&mut session, phase, trial, flattest)?;
        let (once, _) = time(&mut session, phase, trial, flattest)?;
        for &steps in &asked.steps {
            let estimate = once * weights(steps) / weights(flattest);
            let affordable = budget / (estimate * f64::from(asked.repetitions));
            let tokens = whole(affordable, least.min(most), most);
            let repetitions = whole(budget / (estimate * f64::from(tokens)), 1, asked.repetitions);
            // A longer prompt has other passes, whose kernels are compiled in a separate run.
            if phase == Phase::Prefill && tokens != trial {
                time(&mut session, phase, tokens, flattest)?;
            }
            let all = (0..repetitions).map(|_| time(&mut session, phase, tokens, steps));
            let (seconds, host) = all.collect::<Result<(Vec<_>, Vec<_>), _>>()?;
            let (time, host) = (Sample::new(seconds), Sample::new(host).median());
            let timing = TokenTiming::new(model, phase, tokens, steps, time, host);
            if !done(timing) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Rounds down to an integer within bounds.
#[expect(clippy::cast_sign_loss, reason = "the bounds are not negative")]
fn whole(value: f64, least: u32, most: u32) -> u32 {
    value.clamp(least.into(), most.max(least).into()) as u32
}

/// Generates from a fresh sequence. Returns the seconds per token, and the host's seconds per token for encoding.
pub(crate) fn time(session: &mut Session, phase: Phase, tokens: u32, steps: u32) -> Result<(f64, f64), Error> {
    session.rewind(0)?;
    let vocab = session.model().spec().vocab;
    // Any tokens will do, but they must differ, or one row of the embedding would stay in the cache.
    let token = |index: u32| index.wrapping_mul(2_654_435_761) % vocab;
    let (prompt, generated) = if phase == Phase::Prefill { (tokens, 1) } else { (1, tokens + 1) };
    let prompt: Vec<u32> = (1..=prompt).map(token).collect();
    let options = GenerateOptions {
        steps: Some(steps),
        max_tokens: Some(generated),
        sampling: Sampling::GREEDY,
        // The sequence must not stop at an end token.
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    };
    let mut generation = session.generate(&prompt[..], &options)?;
    generation.by_ref().try_for_each(|piece| piece.map(drop))?;
    let Statistics { prompt_time, decode_time, host_time, .. } = generation.statistics();
    let time = if phase == Phase::Prefill { prompt_time } else { decode_time };
    let passes = f64::from(tokens) + if phase == Phase::Prefill { 0.0 } else { 1.0 };
    Ok((time.as_secs_f64() / f64::from(tokens), host_time.as_secs_f64() / passes))
}

/// Time per decoded token as a straight line over the number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Seconds of a token apart from its steps.
    pub base: f64,
    /// Seconds per step.
    pub slope: f64,
    /// Largest distance of a point from the line, relative to the point's measured time.
    pub residual: f64,
}

impl Line {
    /// Fits a line to points `(steps, seconds)` by least squares of the relative distances. Returns `None` for fewer than three different depths.
    #[must_use]
    pub fn fit(points: &[(u32, f64)]) -> Option<Self> {
        let mut depths: Vec<u32> = points.iter().map(|&(steps, _)| steps).collect();
        depths.sort_unstable();
        depths.dedup();
        if depths.len() < 3 {
            return None;
        }
        let sum = |term: fn(f64, f64) -> f64| -> f64 {
            points.iter().map(|&(steps, seconds)| term(f64::from(steps), seconds) / (seconds * seconds)).sum()
        };
        let (w, x, y, xx, xy) = (sum(|_, _| 1.0), sum(|x, _| x), sum(|_, y| y), sum(|x, _| x * x), sum(|x, y| x * y));
        let slope = (w * xy - x * y) / (w * xx - x * x);
        let base = (y - slope * x) / w;
        let distance = |&(steps, seconds): &(u32, f64)| ((base + slope * f64::from(steps)) / seconds - 1.0).abs();
        Some(Self { base, slope, residual: points.iter().map(distance).fold(0.0, f64::max) })
    }

    /// Minimum seconds for reading the weights of one step.
    #[must_use]
    pub fn bound(model: &Model, ceilings: &Ceilings) -> f64 {
        (model.bytes_per_token(2) - model.bytes_per_token(1)) as f64 * ceilings.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_points_on_it() {
        let points = [1, 2, 8, 64].map(|steps| (steps, 0.5 + 0.25 * f64::from(steps)));
        let line = Line::fit(&points).expect("four depths");
        assert!((line.base - 0.5).abs() < 1e-9 && (line.slope - 0.25).abs() < 1e-9 && line.residual < 1e-9, "{line:?}");
    }

    #[test]
    fn the_residual_is_the_largest_relative_distance() {
        let line = Line::fit(&[(1, 1.0), (2, 2.2), (3, 3.0)]).expect("three depths");
        let farthest = (line.base + 2.0 * line.slope) / 2.2 - 1.0;
        assert!((line.residual - farthest.abs()).abs() < 1e-9 && line.residual > 0.03, "{line:?}");
        assert_eq!(Line::fit(&[(1, 1.0), (2, 2.0), (2, 2.1)]), None);
    }
}
