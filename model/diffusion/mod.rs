//! Diffusion forcing (Geiping et al., arXiv 2510.14961): a wavefront of positions is iterated together, a few steps a round, and every round their tokens are chosen
//! anew, each behind the position before it. A token stands once the state behind it has settled; the wavefront grows by some positions every round.
//!
//! Other than drafts and guesses this is not exact: a token may stand that plain decoding would not have chosen.

mod wavefront;

use std::fmt;
use std::str::FromStr;

use ruminate_shaders::attention::cache::KvShare;
use ruminate_shaders::wavefront::FreezeRule;

pub(crate) use self::wavefront::{Current, RowSpan, WavefrontSites, emitted};

/// Diffusion forcing, with the defaults of the paper. A token stands once the state at its own position has settled, so a context holds one less than otherwise.
/// Sessions for it are made with [`Diffusion::SHARE`]: a position's keys are those of its last step.
///
/// The steps of [`GenerateOptions::steps`](crate::GenerateOptions::steps) are those of the prompt, and what [`FreezeRule::TokenStability`] and [`FreezeRule::Fixed`] count by.
/// [`GenerateOptions::continuous`](crate::GenerateOptions::continuous) lets a new position begin with the state of the one in front of it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Diffusion {
    /// Positions that the wavefront grows by in a round, at least 1. Beyond the first they begin with random tokens.
    pub headway: u32,
    /// Steps of a round.
    pub inner_steps: u32,
    /// Positions of a wavefront, at most: more than [`Self::headway`], up to 256.
    pub wavefront: u32,
    /// Share that an embedding keeps of the one in the round before, from 0 to below 1.
    pub ema: f32,
    /// Random states that are mixed into those of a round.
    pub noise_mix: NoiseMix,
    /// When a token stands.
    pub freeze: Freezing,
    /// Whether the prompt is computed first, at full depth; if not, it is a part of the first wavefront, which must have room for it.
    pub full_prefill: bool,
    /// Steps behind which a position stands whether it has settled or not; by default 16 times the steps of a token.
    pub most_steps: Option<u32>,
    /// What is taken instead of random states and tokens, to compare with another implementation.
    pub given: Option<Given>,
}

impl Diffusion {
    /// What sessions for it share: one slot for all steps, the authors' `latest-m4-compress-s4`. Without it, a wavefront sees what positions that are known looked
    /// like at their first steps.
    pub const SHARE: KvShare = KvShare::Steps(1);
}

impl Default for Diffusion {
    fn default() -> Self {
        Self {
            headway: 1,
            inner_steps: 4,
            wavefront: 128,
            ema: 0.1,
            noise_mix: NoiseMix::default(),
            freeze: Freezing::new(FreezeRule::LatentDiff),
            full_prefill: true,
            most_steps: None,
            given: None,
        }
    }
}

/// Random states that are mixed into those of a wavefront before every round.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct NoiseMix {
    /// Share of the random state, 0 to 1; 0 in the paper, 0.5 in the authors' code.
    pub share: f32,
    /// Whether the share is divided by one more than the steps that the position has had.
    pub dampened: bool,
    /// Whether the roots of the shares are the factors, which keeps the variance.
    pub sqrt: bool,
}

impl Default for NoiseMix {
    fn default() -> Self {
        Self { share: 0.0, dampened: true, sqrt: false }
    }
}

/// When a token of a wavefront stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "crate::serialize::FreezingFields")
)]
pub struct Freezing {
    /// What is looked at.
    pub rule: FreezeRule,
    /// What the value must be below, by the rules that compare states.
    pub threshold: f32,
    /// Whether it goes as in the authors' code: all positions up to the last that has settled stand, settled or not; behind a round that dropped positions, each
    /// is compared with another one, as far behind it; an embedding that is new is scaled as if there had been a zero one before it; and where the share of
    /// noise is dampened, the first position counts as iterated. If not, positions stand up to the first that has not settled, and each is compared with itself.
    pub authors: bool,
}

impl Freezing {
    /// A rule with the authors' threshold, but none of their ways.
    #[must_use]
    pub const fn new(rule: FreezeRule) -> Self {
        Self { rule, threshold: 0.03, authors: false }
    }
}

/// What is taken instead of what would be drawn.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Given {
    /// States `[at least wavefront, n_embd]`: the first ones for new positions, as many as it has for a prompt, and as many as the wavefront has for the noise. Empty
    /// if they are drawn.
    pub states: Vec<f32>,
    /// Tokens that new positions beyond the first begin with, one after the other, and again from the start. Empty if they are drawn.
    pub tokens: Vec<u32>,
}

/// `latent-diff`, with a threshold `latent-diff=0.1`, or as the authors have it, `latent-diff=0.1,authors`.
impl FromStr for Freezing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, authors) = text.strip_suffix(",authors").map_or((text, false), |rest| (rest, true));
        let (name, threshold) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
        let rule = FreezeRule::ALL.into_iter().find(|rule| rule.name() == name);
        let rule = rule.ok_or_else(|| {
            let all = FreezeRule::ALL.map(FreezeRule::name).join(", ");
            format!("there is no rule {name:?}; there are {all}, and each may end with ,authors")
        })?;
        let mut freezing = Self { authors, ..Self::new(rule) };
        if let Some(value) = threshold {
            if !rule.compares() {
                return Err(format!("{name} compares no states and takes no threshold: give {name} alone"));
            }
            let number: Option<f32> = value.parse().ok().filter(|number: &f32| number.is_finite() && *number > 0.0);
            freezing.threshold =
                number.ok_or_else(|| format!("{value:?} is no threshold: give a number above 0, {name}=0.03"))?;
        }
        Ok(freezing)
    }
}

impl fmt::Display for Freezing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule.name())?;
        if self.rule.compares() {
            write!(f, "={}", self.threshold)?;
        }
        f.write_str(if self.authors { ",authors" } else { "" })
    }
}

/// `0.5`, the same share in every round: `0.5,constant`, or with roots, which keeps the variance: `0.5,constant,sqrt`.
impl FromStr for NoiseMix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let share = words.next().and_then(|word| word.parse().ok()).filter(|share| (0.0..=1.0).contains(share));
        let share = share.ok_or_else(|| format!("{text:?}: give a share from 0 to 1, as 0.5 or 0.5,constant,sqrt"))?;
        let mut found = Self { share, ..Self::default() };
        for word in words {
            match word {
                "dampened" => found.dampened = true,
                "constant" => found.dampened = false,
                "sqrt" => found.sqrt = true,
                _ => return Err(format!("{word:?} is none of dampened, constant and sqrt")),
            }
        }
        Ok(found)
    }
}
