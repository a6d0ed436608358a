//! Translates flags into fields of a request to a server.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ruminate::{Criterion, PrefillExit};
use serde_json::{Map, Value, json};

use super::Chat;
use crate::exit_code::Usage;
use crate::prompt::{keys, unescape};

/// Environment variable with the API key; `ruminate serve` reads it too.
const KEY: &str = "RUMINATE_API_KEY";

/// Flags that apply only to a model on this machine, and so conflict with `--server`.
fn local() -> Vec<&'static str> {
    #[cfg(feature = "structured")]
    let structured = ["grammar", "regex"];
    #[cfg(not(feature = "structured"))]
    let structured: [&str; 0] = [];
    let model =
        ["model", "dtype", "overcommit", "gpu", "backend", "cpu", "tuning", "no_tune", "ctx_size", "parse_special"];
    let session = [
        "init_scale",
        "continuous",
        "noise",
        "diffusion",
        "invariant",
        "kv_lookup",
        "kv_share",
        "kv_dtype",
        "logit_bias",
    ];
    model.into_iter().chain(session).chain(structured).collect()
}

/// Flags that choose a server.
#[derive(Args)]
pub(super) struct ServerOptions {
    /// Talk to a server at URL instead of a model on this machine
    ///
    /// `ruminate serve` starts one: http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", conflicts_with_all = local(), help_heading = "Server")]
    pub(super) server: Option<String>,
    /// API key for the server
    ///
    /// Other users can see it in the process list; --api-key-file or the environment variable RUMINATE_API_KEY hides it.
    #[arg(long, value_name = "KEY", requires = "server", help_heading = "Server")]
    api_key: Option<String>,
    /// File with the API key
    #[arg(long, value_name = "FILE", requires = "server", conflicts_with = "api_key", help_heading = "Server")]
    api_key_file: Option<PathBuf>,
}

impl ServerOptions {
    /// API key from the flags or the environment, if any.
    pub(super) fn key(&self) -> Result<Option<String>> {
        if let Some(path) = &self.api_key_file {
            return Ok(keys(path)?.into_iter().next());
        }
        let named = || std::env::var(KEY).ok().filter(|key| !key.is_empty());
        Ok(self.api_key.clone().or_else(named))
    }
}

impl Chat {
    /// Fields sent with every request. Options without a flag are left to the server.
    pub(super) fn fields(&self) -> Result<Map<String, Value>> {
        let generation = &self.generation;
        let sampling = &generation.sampling;
        let mut fields = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        };
        put("steps", generation.steps.map(Value::from));
        if let Some(exit) = generation.exit.exit() {
            if exit.posthoc {
                return Err(Usage("--exit gate,posthoc is not supported with --server".to_owned()).into());
            }
            let mut object = json!({
                "criterion": Criterion::name(exit.criterion),
                "threshold": exit.threshold,
                "min_steps": exit.min_steps,
                "every": exit.every,
            });
            if exit.prefill == PrefillExit::Never {
                object["prefill"] = "never".into();
            }
            put("exit", Some(object));
        }
        put(
            "speculate",
            generation.parallel.speculate().map(|it| {
                let mut object = json!({ "draft_len": it.draft_len, "threshold": it.threshold });
                if let Some(steps) = it.draft_steps {
                    object["draft_steps"] = steps.into();
                }
                object
            }),
        );
        put(
            "pipeline",
            generation.parallel.pipeline().map(|it| it.every.map_or(true.into(), |every| json!({ "every": every }))),
        );
        put("max_tokens", generation.max_tokens.map(Value::from));
        put("seed", generation.seed.map(|seed| seed.cast_signed().into()));
        put("stop", (!generation.stop.is_empty()).then(|| generation.stop.iter().map(|text| unescape(text)).collect()));
        put("temperature", sampling.temp.map(Value::from));
        put("top_k", sampling.top_k.map(Value::from));
        put("top_p", sampling.top_p.map(Value::from));
        put("min_p", sampling.min_p.map(Value::from));
        put("repeat_penalty", sampling.repeat_penalty.map(Value::from));
        put("repeat_last_n", (sampling.repeat_window > 0).then(|| sampling.repeat_window.into()));
        if let Some(multiplier) = sampling.dry_multiplier {
            put("dry_multiplier", Some(multiplier.into()));
            put("dry_base", Some(sampling.dry_base.into()));
            put("dry_allowed_length", Some(sampling.dry_allowed_length.into()));
            put("dry_penalty_last_n", (sampling.dry_range > 0).then(|| sampling.dry_range.into()));
            put("dry_sequence_breakers", Some(json!(sampling.breakers())));
        }
        put("chat_template_kwargs", self.chat_template_kwargs.clone().map(Value::Object));
        #[cfg(feature = "structured")]
        put("response_format", self.structured.schema()?.map(|schema| response_format(&schema)));
        Ok(fields)
    }
}

/// Wraps a schema as OpenAI's API expects it.
#[cfg(feature = "structured")]
fn response_format(schema: &Value) -> Value {
    json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": true } })
}
