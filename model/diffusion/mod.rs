//! Diffusion forcing (Geiping et al., arXiv 2510.14961).
//!
//! A wavefront of positions is iterated together, a few steps per round. In every round, each position's token is chosen again from the row before it. A token
//! is frozen once the state at its position meets the freeze rule, and the wavefront grows by some positions in every round.
//!
//! Unlike speculative and pipelined decoding, it is not exact: a frozen token may differ from the one that plain decoding would choose.

mod wavefront;

use std::fmt;
use std::str::FromStr;

use ruminate_shaders::attention::cache::KvShare;
use ruminate_shaders::wavefront::FreezeRule;

pub(crate) use self::wavefront::{Current, RowSpan, WavefrontSites, emitted};

/// Options of diffusion forcing, with the defaults of the paper.
///
/// A token is frozen only once the state at its own position meets the rule, so the context holds one token less than with plain decoding. Create sessions for
/// it with [`Diffusion::SHARE`]: a position then keeps only the keys of its last step.
///
/// [`GenerateOptions::steps`](crate::GenerateOptions::steps) sets the steps of the prompt; [`FreezeRule::TokenStability`] and [`FreezeRule::Fixed`] derive
/// their number of rounds from it. With [`GenerateOptions::continuous`](crate::GenerateOptions::continuous), a new position starts from the state of an earlier
/// one.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Diffusion {
    /// Positions that the wavefront grows by per round, at least 1. New positions after the first start with random tokens.
    pub headway: u32,
    /// Steps per round.
    pub inner_steps: u32,
    /// Maximum positions of the wavefront: more than [`Self::headway`], up to 256.
    pub wavefront: u32,
    /// Share of the previous round's embedding in the new one, from 0 to below 1.
    pub ema: f32,
    /// Random states that are mixed into the states of a round.
    pub noise_mix: NoiseMix,
    /// Rule that decides when a token is frozen.
    pub freeze: Freezing,
    /// Whether the prompt is computed first, at full depth. Otherwise it is part of the first wavefront, which must have room for it.
    pub full_prefill: bool,
    /// Steps after which a position is frozen even if it does not meet the rule; by default 16 times the steps of a token.
    pub most_steps: Option<u32>,
    /// States and tokens to use instead of random ones, for comparison with another implementation.
    pub given: Option<Given>,
}

impl Diffusion {
    /// Sharing of keys between steps for its sessions: one slot for all steps, `latest-m4-compress-s4` in the authors' code. Without it, a wavefront attends to
    /// the keys of frozen positions at their first steps.
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

/// Random states that are mixed into the states of a wavefront before every round.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct NoiseMix {
    /// Share of the random state, 0 to 1. It is 0 in the paper and 0.5 in the authors' code.
    pub share: f32,
    /// Whether the share is divided by one plus the number of steps that the position has taken.
    pub dampened: bool,
    /// Whether the factors are the square roots of the shares, which keeps the variance.
    pub sqrt: bool,
}

impl Default for NoiseMix {
    fn default() -> Self {
        Self { share: 0.0, dampened: true, sqrt: false }
    }
}

/// Rule that decides when a token of a wavefront is frozen.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "crate::serialize::FreezingFields")
)]
pub struct Freezing {
    /// Rule.
    pub rule: FreezeRule,
    /// Threshold that the value must be below, for rules that compare states.
    pub threshold: f32,
    /// Whether to follow the authors' code:
    /// - All positions up to the last one that meets the rule are frozen, including those before it that do not.
    /// - After a round that dropped positions, each position is compared with the one that many positions later.
    /// - A new embedding is scaled as if there had been a zero embedding before it.
    /// - With a dampened share of noise, the first position counts as already iterated.
    ///
    /// Otherwise positions are frozen up to the first that does not meet the rule, and each position is compared with itself.
    pub authors: bool,
}

impl Freezing {
    /// Creates a rule with the authors' threshold, but without the other behavior of their code.
    #[must_use]
    pub const fn new(rule: FreezeRule) -> Self {
        Self { rule, threshold: 0.03, authors: false }
    }
}

/// Values to use instead of random ones.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Given {
    /// States `[at least wavefront, n_embd]`, or empty to draw them. New positions take the first states; a prompt takes as many as it has tokens, and noise
    /// takes one per row of the wavefront.
    pub states: Vec<f32>,
    /// Tokens that new positions after the first start with, used in turn and then from the start again. Empty to draw them.
    pub tokens: Vec<u32>,
}

/// Parses `latent-diff`, with a threshold `latent-diff=0.1`, or with the behavior of the authors' code `latent-diff=0.1,authors`.
impl FromStr for Freezing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, authors) = text.strip_suffix(",authors").map_or((text, false), |rest| (rest, true));
        let (name, threshold) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
        let rule = FreezeRule::ALL.into_iter().find(|rule| rule.name() == name);
        let rule = rule.ok_or_else(|| {
            let all = FreezeRule::ALL.map(FreezeRule::name).join(", ");
            format!("unknown freeze rule `{name}` (expected one of {all}, each optionally with ,authors)")
        })?;
        let mut freezing = Self { authors, ..Self::new(rule) };
        if let Some(value) = threshold {
            if !rule.compares() {
                return Err(format!("the freeze rule {name} takes no threshold: give {name} alone"));
            }
            let number: Option<f32> = value.parse().ok().filter(|number: &f32| number.is_finite() && *number > 0.0);
            freezing.threshold = number.ok_or_else(|| {
                format!("invalid threshold `{value}` (expected a number above 0, such as {name}=0.03)")
            })?;
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

/// Parses `0.5`; with the same share in every round, `0.5,constant`; or with square roots of the shares, which keeps the variance, `0.5,constant,sqrt`.
impl FromStr for NoiseMix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let share = words.next().and_then(|word| word.parse().ok()).filter(|share| (0.0..=1.0).contains(share));
        let share = share.ok_or_else(|| {
            format!("invalid noise mix `{text}` (expected a share from 0 to 1, such as 0.5 or 0.5,constant,sqrt)")
        })?;
        let mut found = Self { share, ..Self::default() };
        for word in words {
            match word {
                "dampened" => found.dampened = true,
                "constant" => found.dampened = false,
                "sqrt" => found.sqrt = true,
                _ => return Err(format!("unknown noise mix option `{word}` (expected dampened, constant or sqrt)")),
            }
        }
        Ok(found)
    }
}
