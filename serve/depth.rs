//! Fields for recurrence depth, with the names of the library's options.

use ruminate::{Criterion, Exit, GenerateOptions, KvShare, Pipeline, PrefillExit, Speculate};
use serde::Deserialize;
use serde_json::Value;

use crate::app::{App, Loaded};
use crate::body::switch;
use crate::error::ApiError;

/// Depth fields of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Depth {
    /// Maximum steps per token.
    steps: Option<u32>,
    /// An object, or `false`.
    exit: Option<Value>,
    /// `true`, or an object.
    speculate: Option<Value>,
    /// `true`, or an object.
    pipeline: Option<Value>,
    /// Sharing of keys and values; must match the cache, for clients that depend on it.
    kv_share: Option<Value>,
    /// Whether the answer lists the steps of every token.
    return_steps: Option<bool>,
}

/// Early exit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExitField {
    criterion: String,
    threshold: Option<f32>,
    min_steps: Option<u32>,
    every: Option<u32>,
    prefill: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpeculateField {
    draft_steps: Option<u32>,
    draft_len: Option<u32>,
    threshold: Option<f32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PipelineField {
    every: Option<u32>,
}

impl Depth {
    /// Whether the answer lists the steps of every token.
    pub(crate) fn returns_steps(&self) -> bool {
        self.return_steps == Some(true)
    }

    /// Applies the fields to the library's options.
    pub(crate) fn apply(self, app: &App, loaded: &Loaded, options: &mut GenerateOptions) -> Result<(), ApiError> {
        let most = app.max_steps();
        if let Some(steps) = self.steps {
            if steps == 0 || steps > most {
                return Err(ApiError::field("steps", format!("`steps` is {steps}; it must be from 1 to {most}")));
            }
            options.steps = Some(steps);
        } else if app.options.max_steps.is_some() {
            // The default of a model may exceed the operator's limit.
            options.steps = Some(options.steps.unwrap_or(loaded.model.spec().steps.default).min(most));
        }
        // `true` is not enough: an exit rule needs a criterion.
        if let Some(exit) = switch::<ExitField>("exit", self.exit, None, "{\"criterion\": \"latent-diff\"}")? {
            options.exit = Some(exit.read()?);
        }
        let speculate = switch("speculate", self.speculate, Some(SpeculateField::default()), "{\"draft_len\": 4}")?;
        if let Some(SpeculateField { draft_steps, draft_len, threshold }) = speculate {
            let usual = Speculate::default();
            options.speculate = Some(Speculate {
                draft_steps,
                draft_len: draft_len.unwrap_or(usual.draft_len),
                threshold: threshold.unwrap_or(usual.threshold),
            });
        }
        let pipeline = switch("pipeline", self.pipeline, Some(PipelineField::default()), "{\"every\": 4}")?;
        if let Some(PipelineField { every }) = pipeline {
            options.pipeline = Some(Pipeline { every });
        }
        match self.kv_share {
            None | Some(Value::Null) => Ok(()),
            Some(value) if value == share_name(loaded.kv_share) => Ok(()),
            Some(value) => {
                let here = share_name(loaded.kv_share);
                let message = format!(
                    "`kv_share` is {value}; it is a property of this server's cache, which was started with {here}: leave it out, or use a server started with another --kv-share"
                );
                Err(ApiError::field("kv_share", message))
            }
        }
    }
}

impl ExitField {
    fn read(self) -> Result<Exit, ApiError> {
        let find = |criterion: &Criterion| criterion.name() == self.criterion;
        let Some(criterion) = Criterion::ALL.into_iter().find(find) else {
            let all = Criterion::ALL.map(Criterion::name).join(", ");
            let message = format!("unknown exit criterion {:?} (expected {all})", self.criterion);
            return Err(ApiError::field("exit.criterion", message));
        };
        let usual = Exit::new(criterion);
        let prefill = match self.prefill.as_deref() {
            None => usual.prefill,
            Some("each") => PrefillExit::Each,
            Some("together") => PrefillExit::Together,
            Some("never") => PrefillExit::Never,
            Some(other) => {
                let message = format!("unknown value {other:?} of `exit.prefill` (expected each, together or never)");
                return Err(ApiError::field("exit.prefill", message));
            }
        };
        Ok(Exit {
            threshold: self.threshold.unwrap_or(usual.threshold),
            min_steps: self.min_steps.unwrap_or(usual.min_steps),
            every: self.every.unwrap_or(usual.every),
            prefill,
            ..usual
        })
    }
}

/// Name of a sharing mode in requests and answers.
pub(crate) fn share_name(share: KvShare) -> Value {
    match share {
        KvShare::None => "none".into(),
        KvShare::Anchor => "anchor".into(),
        KvShare::Steps(apart) => apart.into(),
    }
}
