//! Noise between the steps: what can be asked for.

use std::fmt;
use std::str::FromStr;

use ruminate_shaders::recur::{NoiseKind, NoiseRule};

use crate::arch::{PostNorm, Spec};
use crate::error::Error;

/// Noise that every state gets before every step, the prompt's too, as the authors' code adds it at test time: a share of the state gives way to a
/// standard normal. Drawn on the device from the session's seed, the position and the step, so that a run can be repeated.
///
/// The amount a that the share is reckoned from is [`Self::scale`] times the standard deviation of initial states before they are cut.
/// The share before step i, from 0, is a (fixed), a / (i + 1) (geom), a / √(i + 1) (sqrt), (R - i) / R but at least a, where R is the
/// model's mean recurrence (line), or for each position and step by itself something between 0 and 2·a (chi; the authors draw one
/// number for all positions, which depend on each other then).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "crate::serialize::NoiseFields")
)]
pub struct Noise {
    /// How much at which step.
    pub kind: NoiseKind,
    /// Factor on the standard deviation of initial states, above 0; the authors' `test_time_noise`.
    pub scale: f32,
    /// Whether states are normed after the noise, by the last norm of the core block, as the authors do.
    pub renorm: bool,
}

impl Noise {
    /// Noise as the authors add it: normed afterwards.
    #[must_use]
    pub const fn new(kind: NoiseKind, scale: f32) -> Self {
        Self { kind, scale, renorm: true }
    }

    /// What a model makes of it.
    ///
    /// # Errors
    /// [`Error::Option`] if the scale is no number above 0, or would replace more than the whole state.
    pub(crate) fn rule(&self, spec: &Spec) -> Result<NoiseRule, Error> {
        let wrong = |allowed| Err(Error::Option { name: "noise", value: self.to_string(), allowed });
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return wrong("a scale above 0");
        }
        if self.renorm && spec.norms.post != PostNorm::Sum {
            return wrong("one without a norm behind it, as geom=0.1,raw: no norm ends this model's steps");
        }
        let amount = (f64::from(self.scale) * spec.state_std()) as f32;
        if self.kind == NoiseKind::Chi && amount > 0.5 {
            return wrong(
                "a scale with which at most half of the state is noise on average: 0.5 / (init_values.std · embed_scale)",
            );
        }
        if amount > 1.0 {
            return wrong("a scale with which at most all of the state is noise: 1 / (init_values.std · embed_scale)");
        }
        Ok(NoiseRule { kind: self.kind, amount, steps: spec.steps.default, renorm: self.renorm })
    }
}

/// `geom=0.1`, or without the norm behind it, `fixed=0.05,raw`.
impl FromStr for Noise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = NoiseKind::ALL.map(NoiseKind::name).join(", ");
        let (name, rest) =
            text.split_once('=').ok_or_else(|| format!("give a kind and a scale, geom=0.1; kinds are {all}"))?;
        let kind = NoiseKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| format!("there is no noise {name:?}; there are {all}"))?;
        let (scale, norm) = rest.split_once(',').unwrap_or((rest, "renorm"));
        let scale: Option<f32> = scale.parse().ok().filter(|scale: &f32| scale.is_finite() && *scale > 0.0);
        let scale = scale.ok_or_else(|| format!("{rest:?} is no scale: give a number above 0, {name}=0.1"))?;
        let renorm = match norm {
            "renorm" => true,
            "raw" => false,
            _ => return Err(format!("{norm:?} is neither renorm (normed behind the noise, as usual) nor raw")),
        };
        Ok(Self { kind, scale, renorm })
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.kind.name(), self.scale, if self.renorm { "" } else { ",raw" })
    }
}
