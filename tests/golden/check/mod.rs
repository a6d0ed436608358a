//! Compares a checkpoint with outputs of the authors' own code.
//!
//! A fixture folder holds a checkpoint in the published format, with `expected.json` and `expected.safetensors`. Weights and cache are in f32 here, so that
//! differences are only rounding. A check passes if its largest error is at most 1e-4 of the largest expected value plus four times the difference between
//! f32 and f64 in the authors' own code. Tensors missing from a trimmed fixture are not checked.

mod adaptive;
mod decode;
mod fixture;
mod forward;
mod gated;
mod sampling;
mod speculative;
mod text;
mod trace;

use std::path::Path;

use anyhow::{Context, Result};
use ruminate::{KvSharing, LoadOptions, Model, Session, SessionOptions, Source, State};
use ruminate_engine::Device;
use ruminate_shaders::Dtype;
use ruminate_shaders::attention::cache::Lookup;

pub use fixture::Fixture;

/// Outcome of one comparison.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Section and tensor.
    pub name: String,
    /// Largest absolute error, or number of differing tokens.
    pub error: f64,
    /// Maximum error allowed.
    pub bound: f64,
    /// Reason why a difference does not count, if any.
    pub excused: Option<&'static str>,
}

impl Outcome {
    /// Whether the check passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error <= self.bound || self.excused.is_some()
    }
}

/// Fixture, its model on a device, and the outcomes so far.
pub struct Golden {
    fixture: Fixture,
    model: Model,
    outcomes: Vec<Outcome>,
}

/// Part of a fixture that can be checked separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Logits, intermediates, tokens of texts.
    Computed,
    /// Generated tokens: lookups, sharing, sampling.
    Decoded,
    /// Early exits and continuous compute.
    EarlyExit,
    /// Speculative and pipelined decoding.
    Speculative,
    /// Diffusion forcing.
    Diffused,
}

impl Section {
    /// All sections.
    pub const ALL: [Self; 5] = [Self::Computed, Self::Decoded, Self::EarlyExit, Self::Speculative, Self::Diffused];

    /// Name in tests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Decoded => "decoded",
            Self::EarlyExit => "early_exit",
            Self::Speculative => "speculative",
            Self::Diffused => "diffused",
        }
    }
}

/// Runs the checks of some sections of a fixture folder on a device.
///
/// # Errors
/// If the folder is not a fixture, the model does not load, or the device fails.
pub fn check(folder: &Path, device: &Device, sections: &[Section]) -> Result<Vec<Outcome>> {
    let fixture = Fixture::open(folder)?;
    let options = LoadOptions { dtype: Some(Dtype::F32), ..LoadOptions::default() };
    let model = Model::open(&Source::dir(folder)?, device, options)?;
    let mut golden = Golden { fixture, model, outcomes: Vec::new() };
    for section in sections {
        match section {
            Section::Computed => {
                golden.forward().context("forward")?;
                golden.trace().context("trace")?;
                golden.text().context("tokenizer")?;
            }
            Section::Decoded => {
                golden.decode().context("decode")?;
                golden.greedy_zero().context("greedy_zero")?;
                golden.sampling().context("sampling")?;
            }
            Section::EarlyExit => {
                golden.adaptive().context("adaptive")?;
                golden.varied().context("varied")?;
                golden.continuous().context("continuous")?;
                golden.gated().context("exit")?;
            }
            Section::Speculative => golden.speculative().context("speculative")?,
            Section::Diffused => golden.diffusion().context("diffusion")?,
        }
    }
    Ok(golden.outcomes)
}

/// States given by a fixture, if any; otherwise the model's seeded states.
fn state_of(states: Option<&[f32]>) -> State<'_> {
    states.map_or(State::Seeded, State::Given)
}

impl Golden {
    /// Session with f32 keys and values.
    fn session(&self, lookup: Lookup, init_scale: f32) -> Result<Session> {
        self.session_of(KvSharing { lookup, ..KvSharing::default() }, init_scale)
    }

    fn session_of(&self, KvSharing { lookup, share }: KvSharing, init_scale: f32) -> Result<Session> {
        let options = SessionOptions { kv_dtype: Dtype::F32, lookup, share, init_scale, ..SessionOptions::default() };
        Ok(self.model.session(options)?)
    }

    /// Compares values with an expected tensor.
    fn compare(&mut self, name: &str, found: &[f32]) -> Result<()> {
        let expected = self.fixture.tensor(name)?;
        let bound = self.fixture.bound(name, &expected);
        self.compare_with(name, found, &expected, bound);
        Ok(())
    }

    fn compare_with(&mut self, name: &str, found: &[f32], expected: &[f32], bound: f64) {
        let same = found.len() == expected.len();
        let differences = found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
        let worst = differences.fold(0.0, |worst: f64, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) });
        let error = if same { worst } else { f64::INFINITY };
        self.outcomes.push(Outcome { name: name.to_owned(), error, bound, excused: None });
    }

    /// Compares lists that must be equal; the error is the number of differences.
    fn compare_equal<T: PartialEq>(&mut self, name: &str, found: &[T], expected: &[T], excused: Option<&'static str>) {
        let differing = found.iter().zip(expected).filter(|(a, b)| a != b).count();
        let error = (differing + found.len().abs_diff(expected.len())) as f64;
        self.outcomes.push(Outcome { name: name.to_owned(), error, bound: 0.0, excused });
    }
}
