//! Sampling fields, with their names in OpenAI's API and in llama.cpp.

use ruminate::{Dry, GenerateOptions};
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;

/// Maximum number of stop texts of a request.
const MOST_STOPS: usize = 64;

/// Maximum length of a stop text in bytes, limited because every token is compared with all stop texts.
const LONGEST_STOP: usize = 1024;

/// Sampling fields of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sampling {
    temperature: Option<f32>,
    /// -1 and 0 keep all tokens.
    top_k: Option<i64>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    /// vLLM's name of `repeat_penalty`.
    repetition_penalty: Option<f32>,
    /// -1 applies to all tokens, 0 disables the penalty.
    repeat_last_n: Option<i64>,
    dry_multiplier: Option<f32>,
    dry_base: Option<f32>,
    dry_allowed_length: Option<u32>,
    /// -1 applies to all tokens, 0 disables the penalty.
    dry_penalty_last_n: Option<i64>,
    dry_sequence_breakers: Option<Vec<String>>,
    seed: Option<i64>,
    stop: Option<Value>,
    logit_bias: Option<Value>,
    min_tokens: Option<u32>,
    ignore_eos: Option<bool>,
}

/// Window of a penalty in tokens (0 means all), or `None` if the penalty is disabled.
fn window(name: &str, value: Option<i64>, usual: u32) -> Result<Option<u32>, ApiError> {
    match value {
        None => Ok(Some(usual)),
        Some(-1) => Ok(Some(0)),
        Some(0) => Ok(None),
        Some(tokens) => match u32::try_from(tokens) {
            Ok(tokens) => Ok(Some(tokens)),
            Err(_) => {
                Err(ApiError::field(name, format!("`{name}` is {tokens}; it must be -1 (all tokens) or at least 0")))
            }
        },
    }
}

impl Sampling {
    /// Seed, if given. Negative seeds are reinterpreted as unsigned.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.seed.map(i64::cast_unsigned)
    }

    /// Applies the fields to the library's options.
    pub(crate) fn apply(self, options: &mut GenerateOptions) -> Result<(), ApiError> {
        let sampling = &mut options.sampling;
        let set = |value: Option<f32>, field: &mut f32| *field = value.unwrap_or(*field);
        set(self.temperature, &mut sampling.temperature);
        set(self.top_p, &mut sampling.top_p);
        set(self.min_p, &mut sampling.min_p);
        if self.repeat_penalty.is_some() && self.repetition_penalty.is_some() {
            let message = "`repeat_penalty` and `repetition_penalty` are two names of one field; give one of them";
            return Err(ApiError::field("repetition_penalty", message));
        }
        set(self.repeat_penalty.or(self.repetition_penalty), &mut sampling.repeat_penalty);
        match self.top_k {
            None => {}
            Some(-1) => sampling.top_k = 0,
            Some(kept) => {
                let wrong = |_| ApiError::field("top_k", format!("`top_k` is {kept}; it must be at least -1"));
                sampling.top_k = u32::try_from(kept).map_err(wrong)?;
            }
        }
        match window("repeat_last_n", self.repeat_last_n, sampling.penalty_window)? {
            Some(tokens) => sampling.penalty_window = tokens,
            None => sampling.repeat_penalty = 1.0,
        }
        let dry = &mut sampling.dry;
        if self.dry_multiplier.is_some_and(|multiplier| multiplier != 0.0) && dry.multiplier == 0.0 {
            *dry = Dry::ON;
        }
        set(self.dry_multiplier, &mut dry.multiplier);
        set(self.dry_base, &mut dry.base);
        dry.allowed_length = self.dry_allowed_length.unwrap_or(dry.allowed_length);
        match window("dry_penalty_last_n", self.dry_penalty_last_n, dry.range)? {
            Some(tokens) => dry.range = tokens,
            None => dry.multiplier = 0.0,
        }
        if let Some(breakers) = self.dry_sequence_breakers {
            options.dry_breakers = breakers;
        }
        if let Some(stop) = self.stop {
            options.stop.extend(stops(stop)?);
        }
        if let Some(bias) = self.logit_bias {
            let asked = biases(bias)?;
            options.logit_bias.retain(|(token, _)| asked.iter().all(|(other, _)| other != token));
            options.logit_bias.extend(asked);
        }
        if self.min_tokens.is_some_and(|least| least > 0) {
            options.min_tokens = self.min_tokens;
        }
        if self.ignore_eos == Some(true) {
            options.end_tokens = Some(Vec::new());
        }
        Ok(())
    }
}

/// Parses a stop text, or a list of them.
fn stops(value: Value) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::field("stop", format!("`stop` must be a text or a list of at most {MOST_STOPS} texts"));
    let texts = match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text],
        list => serde_json::from_value(list).map_err(|_| wrong())?,
    };
    if texts.iter().any(String::is_empty) {
        return Err(ApiError::field("stop", "a text in `stop` is empty, which would stop generation immediately"));
    }
    if texts.iter().any(|text| text.len() > LONGEST_STOP) {
        let message = format!("a text in `stop` has more than {LONGEST_STOP} bytes, which is the limit");
        return Err(ApiError::field("stop", message));
    }
    if texts.len() > MOST_STOPS { Err(wrong()) } else { Ok(texts) }
}

/// Parses token ids and the values added to their logits: an object, as in OpenAI's API, or a list of pairs, which llama.cpp also accepts.
fn biases(value: Value) -> Result<Vec<(u32, f32)>, ApiError> {
    let wrong = |what: &str| ApiError::field("logit_bias", format!("`logit_bias`: {what}"));
    let pairs: Vec<(Value, Value)> = match value {
        Value::Null => Vec::new(),
        Value::Object(map) => map.into_iter().map(|(token, bias)| (Value::String(token), bias)).collect(),
        list => serde_json::from_value(list).map_err(|_| wrong("expected an object, or a list of pairs"))?,
    };
    let read = |(token, bias): (Value, Value)| {
        let id = match &token {
            Value::String(text) => text.parse().ok(),
            number => number.as_u64().and_then(|id| u32::try_from(id).ok()),
        };
        let id = id.ok_or_else(|| wrong(&format!("{token} is not a token id")))?;
        match (bias.as_f64(), bias) {
            (_, Value::Bool(false)) => Ok((id, f32::NEG_INFINITY)),
            // At the ends of OpenAI's range, a token is banned or forced.
            (Some(-100.0), _) => Ok((id, f32::NEG_INFINITY)),
            (Some(100.0), _) => Ok((id, f32::INFINITY)),
            (Some(bias), _) if bias.abs() < 100.0 => Ok((id, bias as f32)),
            (_, bias) => {
                Err(wrong(&format!("the bias of token {id} is {bias}; it must be a number from -100 to 100, or false")))
            }
        }
    };
    pairs.into_iter().map(read).collect()
}
