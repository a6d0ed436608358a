//! Serialization of options as JSON and other formats, with the feature `serde`.
//!
//! Fields have the names of the structs, except for `kv_lookup` and `kv_share` of a session; enums have the command line's names. Omitted fields have their
//! defaults; an unknown field or name is an error. [`GenerateOptions::steps_of`](crate::GenerateOptions::steps_of) is a function and is not serialized.

use ruminate_shaders::exit::Criterion;
use ruminate_shaders::recur::NoiseKind;
use ruminate_shaders::wavefront::FreezeRule;
use serde::Deserialize;

use crate::diffusion::Freezing;
use crate::early_exit::{Exit, PrefillExit};
use crate::noise::Noise;

/// Fields of [`Exit`]; only the criterion is required.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExitFields {
    criterion: Criterion,
    threshold: Option<f32>,
    min_steps: Option<u32>,
    every: Option<u32>,
    prefill: Option<PrefillExit>,
    posthoc: Option<bool>,
}

impl From<ExitFields> for Exit {
    fn from(fields: ExitFields) -> Self {
        let usual = Self::new(fields.criterion);
        Self {
            criterion: fields.criterion,
            threshold: fields.threshold.unwrap_or(usual.threshold),
            min_steps: fields.min_steps.unwrap_or(usual.min_steps),
            every: fields.every.unwrap_or(usual.every),
            prefill: fields.prefill.unwrap_or(usual.prefill),
            posthoc: fields.posthoc.unwrap_or(usual.posthoc),
        }
    }
}

/// Fields of [`Noise`]; kind and scale are required.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoiseFields {
    kind: NoiseKind,
    scale: f32,
    renorm: Option<bool>,
}

impl From<NoiseFields> for Noise {
    fn from(fields: NoiseFields) -> Self {
        let usual = Self::new(fields.kind, fields.scale);
        Self { renorm: fields.renorm.unwrap_or(usual.renorm), ..usual }
    }
}

/// Fields of [`Freezing`]; only the rule is required.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FreezingFields {
    rule: FreezeRule,
    threshold: Option<f32>,
    authors: Option<bool>,
}

impl From<FreezingFields> for Freezing {
    fn from(fields: FreezingFields) -> Self {
        let usual = Self::new(fields.rule);
        Self {
            threshold: fields.threshold.unwrap_or(usual.threshold),
            authors: fields.authors.unwrap_or(usual.authors),
            ..usual
        }
    }
}

/// Pairs of token and bias. JSON has no infinity, so infinite values are written `"inf"` or `"-inf"`.
pub(crate) mod logit_bias {
    use serde::de::Error as _;
    use serde::ser::SerializeSeq;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Bias {
        Number(f32),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(pairs: &[(u32, f32)], to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(pairs.len()))?;
        for &(token, value) in pairs {
            let bias = if value.is_finite() { Bias::Number(value) } else { Bias::Text(value.to_string()) };
            list.serialize_element(&(token, bias))?;
        }
        list.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(u32, f32)>, D::Error> {
        let pairs = Vec::<(u32, Bias)>::deserialize(from)?;
        let value = |bias| match bias {
            Bias::Number(value) => Ok(value),
            Bias::Text(text) if text == "inf" => Ok(f32::INFINITY),
            Bias::Text(text) if text == "-inf" => Ok(f32::NEG_INFINITY),
            Bias::Text(text) => {
                Err(D::Error::custom(format!("invalid bias `{text}` (expected a number, \"inf\" or \"-inf\")")))
            }
        };
        pairs.into_iter().map(|(token, bias)| Ok((token, value(bias)?))).collect()
    }
}
