//! Fields of other servers that this one does not support. Fields without effect on the answer are accepted, so that clients of OpenAI's API and of
//! llama.cpp work. Fields that would change the answer are refused, except at their neutral values.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::body::{Fields, names};
use crate::depth::Depth;
use crate::error::ApiError;
use crate::sampling::Sampling;

/// Handling of an unsupported field.
enum Rule {
    /// Accepted and ignored: it does not affect the answer.
    Harmless,
    /// Accepted at these values, given as JSON, and at null. The text names an alternative.
    Only(&'static [&'static str], &'static str),
}

use Rule::{Harmless, Only};

const NOT_OBEYED: &str = "this server does not support it";

const RULES: [(&str, Rule); 58] = [
    // OpenAI's API.
    ("user", Harmless),
    ("metadata", Harmless),
    ("store", Harmless),
    ("service_tier", Harmless),
    ("safety_identifier", Harmless),
    ("prompt_cache_key", Harmless),
    ("prompt_cache_retention", Harmless),
    ("prediction", Harmless),
    ("frequency_penalty", Only(&["0", "0.0"], "use repeat_penalty or dry_multiplier")),
    ("presence_penalty", Only(&["0", "0.0"], "use repeat_penalty or dry_multiplier")),
    ("suffix", Only(&["\"\""], "put it into the prompt, in the model's own format")),
    ("modalities", Only(&["[\"text\"]"], "the model generates text only")),
    ("audio", Only(&[], "the model generates text only")),
    ("reasoning_effort", Only(&[], "use steps, exit or speculate, which set the depth")),
    ("verbosity", Only(&["\"medium\""], NOT_OBEYED)),
    ("web_search_options", Only(&[], NOT_OBEYED)),
    ("moderation", Only(&[], NOT_OBEYED)),
    ("functions", Only(&["[]"], "use tools")),
    ("function_call", Only(&["\"none\""], "use tools")),
    // llama.cpp and related servers.
    ("cache_prompt", Harmless),
    ("id_slot", Harmless),
    ("slot_id", Harmless),
    ("timings_per_token", Harmless),
    ("return_progress", Harmless),
    ("return_tokens", Harmless),
    ("priority", Harmless),
    ("request_id", Harmless),
    ("t_max_prompt_ms", Harmless),
    ("n_keep", Only(&["0", "-1"], "the context is never shifted")),
    ("n_discard", Only(&["0"], "the context is never shifted")),
    ("n_predict", Only(&["-1"], "use max_tokens")),
    ("n_probs", Only(&["0"], "use logprobs")),
    ("n_indent", Only(&["0"], NOT_OBEYED)),
    ("n_cmpl", Only(&["1"], "use n")),
    ("min_keep", Only(&["0", "1"], NOT_OBEYED)),
    ("post_sampling_probs", Only(&["false"], "log-probabilities are those of the model, before sampling")),
    ("samplers", Only(&[], "the order is fixed: logit_bias, repeat_penalty, dry, temperature, top_k, top_p, min_p")),
    ("t_max_predict_ms", Only(&["0", "-1"], "use max_tokens")),
    ("typical_p", Only(&["1", "1.0"], NOT_OBEYED)),
    ("tfs_z", Only(&["1", "1.0"], NOT_OBEYED)),
    ("top_n_sigma", Only(&["-1", "-1.0"], NOT_OBEYED)),
    ("top_a", Only(&["0", "0.0"], NOT_OBEYED)),
    ("mirostat", Only(&["0"], NOT_OBEYED)),
    ("mirostat_tau", Harmless),
    ("mirostat_eta", Harmless),
    ("dynatemp_range", Only(&["0", "0.0"], NOT_OBEYED)),
    ("dynatemp_exponent", Harmless),
    ("xtc_probability", Only(&["0", "0.0"], NOT_OBEYED)),
    ("xtc_threshold", Harmless),
    ("grammar", Only(&["\"\""], "use response_format")),
    ("json_schema", Only(&[], "use response_format")),
    ("lora", Only(&["[]"], NOT_OBEYED)),
    ("length_penalty", Only(&["1", "1.0"], NOT_OBEYED)),
    ("use_beam_search", Only(&["false"], NOT_OBEYED)),
    ("stop_token_ids", Only(&["[]"], "use stop")),
    ("include_stop_str_in_output", Only(&["false"], NOT_OBEYED)),
    ("skip_special_tokens", Only(&["true"], "texts never contain special tokens")),
    ("truncate_prompt_tokens", Only(&[], "prompts are never truncated")),
];

impl Fields {
    /// Parses a generation request: its own fields, sampling, and depth.
    ///
    /// # Errors
    /// 400 for invalid values, and for fields that are unknown or not supported.
    pub(crate) fn of_generation<T: DeserializeOwned>(mut self) -> Result<(T, Sampling, Depth), ApiError> {
        let (request, sampling, depth) = (self.take()?, self.take()?, self.take()?);
        self.finish(&[names::<T>(), names::<Sampling>(), names::<Depth>()])?;
        Ok((request, sampling, depth))
    }

    /// Ends the parsing of a request: checks that the remaining fields may be ignored. `known` lists the supported fields, for suggestions.
    ///
    /// # Errors
    /// 400 for the first field that may not be ignored.
    pub(crate) fn finish(self, known: &[&[&str]]) -> Result<(), ApiError> {
        self.0.into_iter().try_for_each(|(name, value)| {
            let rule = RULES.iter().find(|(field, _)| *field == name).map(|(_, rule)| rule);
            match rule {
                Some(Harmless) => Ok(()),
                Some(Only(..)) if value.is_null() => Ok(()),
                Some(Only(values, instead)) => {
                    let same = |text: &&str| serde_json::from_str::<Value>(text).is_ok_and(|known| known == value);
                    if values.iter().any(same) {
                        return Ok(());
                    }
                    let allowed = if values.is_empty() { "null" } else { values[0] };
                    let message = format!("`{name}` is not supported (only {allowed} is accepted): {instead}");
                    Err(ApiError::field(name, message).with_code("unsupported_parameter"))
                }
                None => {
                    let like = nearest(&name, known).map_or(String::new(), |like| format!("; did you mean `{like}`?"));
                    let message = format!("unknown field `{}`{like}", shortened(&name));
                    Err(ApiError::field(shortened(&name), message).with_code("unknown_parameter"))
                }
            }
        })
    }
}

/// Known field with the most similar name, for suggestions.
fn nearest<'a>(name: &str, known: &[&[&'a str]]) -> Option<&'a str> {
    let near = known.iter().flat_map(|names| names.iter()).map(|known| (strsim::jaro_winkler(name, known), *known));
    near.filter(|(near, _)| *near > 0.85).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// Truncates a name from a client to 64 characters.
fn shortened(name: &str) -> String {
    if name.chars().count() <= 64 { name.to_owned() } else { name.chars().take(63).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::{Only, RULES};

    #[test]
    fn accepted_values_are_json_and_names_are_unique() {
        for (at, (name, rule)) in RULES.iter().enumerate() {
            assert!(RULES[..at].iter().all(|(before, _)| before != name), "{name} is listed twice");
            let Only(values, _) = rule else { continue };
            assert!(values.iter().all(|text| serde_json::from_str::<serde_json::Value>(text).is_ok()), "{name}");
        }
    }
}
