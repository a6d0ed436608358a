//! Noise between steps: its options.

use std::fmt;
use std::str::FromStr;

use ruminate_shaders::recur::{NoiseKind, NoiseRule};

use crate::arch::{PostNorm, Spec};
use crate::error::Error;

/// Noise added to every state before every step, including those of the prompt, as the authors' code adds it at test time.
///
/// A share of the state is replaced by a standard normal. It is drawn on the device from the session's seed, the position and the step, so that runs are
/// reproducible.
///
/// The share depends on the amount a, which is [`Self::scale`] times the standard deviation of initial states before truncation. Before step i, counted from 0,
/// the share is a (fixed), a / (i + 1) (geom), a / √(i + 1) (sqrt), or (R - i) / R but at least a, where R is the model's mean recurrence (line). With chi, it
/// is drawn between 0 and 2·a for each position and step; the authors draw one number for all positions, which makes them depend on each other.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "crate::serialize::NoiseFields")
)]
pub struct Noise {
    /// Share of noise by step.
    pub kind: NoiseKind,
    /// Factor on the standard deviation of initial states, above 0; `test_time_noise` in the authors' code.
    pub scale: f32,
    /// Whether states are normed after the noise, by the last norm of the core block, as in the authors' code.
    pub renorm: bool,
}

impl Noise {
    /// Creates noise as in the authors' code, with states normed afterwards.
    #[must_use]
    pub const fn new(kind: NoiseKind, scale: f32) -> Self {
        Self { kind, scale, renorm: true }
    }

    /// The device's rule for a model.
    ///
    /// # Errors
    /// [`Error::Option`] if the scale is not a number above 0, or would replace more than the whole state.
    pub(crate) fn rule(&self, spec: &Spec) -> Result<NoiseRule, Error> {
        let wrong = |allowed| Err(Error::Option { name: "noise", value: self.to_string(), allowed });
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return wrong("a scale above 0");
        }
        if self.renorm && spec.norms.post != PostNorm::Sum {
            return wrong(
                "without a norm after it, such as geom=0.1,raw, because this model's steps do not end with a norm",
            );
        }
        let amount = (f64::from(self.scale) * spec.state_std()) as f32;
        if self.kind == NoiseKind::Chi && amount > 0.5 {
            return wrong(
                "a scale of at most 0.5 / (init_values.std · embed_scale), so that on average at most half of the state is noise",
            );
        }
        if amount > 1.0 {
            return wrong(
                "a scale of at most 1 / (init_values.std · embed_scale), with which all of the state is noise",
            );
        }
        Ok(NoiseRule { kind: self.kind, amount, steps: spec.steps.default, renorm: self.renorm })
    }
}

/// Parses `geom=0.1`, or without the norm after it, `fixed=0.05,raw`.
impl FromStr for Noise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = NoiseKind::ALL.map(NoiseKind::name).join(", ");
        let (name, rest) = text
            .split_once('=')
            .ok_or_else(|| format!("expected a kind and a scale, such as geom=0.1; the kinds are {all}"))?;
        let kind = NoiseKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| format!("unknown kind of noise `{name}` (expected one of {all})"))?;
        let (scale, norm) = rest.split_once(',').unwrap_or((rest, "renorm"));
        let scale: Option<f32> = scale.parse().ok().filter(|scale: &f32| scale.is_finite() && *scale > 0.0);
        let scale =
            scale.ok_or_else(|| format!("invalid scale `{rest}` (expected a number above 0, such as {name}=0.1)"))?;
        let renorm = match norm {
            "renorm" => true,
            "raw" => false,
            _ => return Err(format!("unknown noise option `{norm}` (expected renorm, the default, or raw)")),
        };
        Ok(Self { kind, scale, renorm })
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.kind.name(), self.scale, if self.renorm { "" } else { ",raw" })
    }
}
