//! `generation_config.json`: the authors' defaults for choosing tokens. Every field either takes effect, or is reported as ignored.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::options::GenerateOptions;
use crate::sampling::Sampling;
use crate::source::Source;

/// Name of the file.
const FILE: &str = "generation_config.json";

/// Fields that take effect.
const OBEYED: [&str; 21] = [
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "do_sample",
    "eos_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "pad_token_id",
    "repetition_penalty",
    "stop_strings",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "transformers_version",
];

/// Fields that do not change the generated text: details of computation and output, and options for beam search only.
const INERT: [&str; 30] = [
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "decoder_start_token_id",
    "disable_compile",
    "early_stopping",
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "renormalize_logits",
    "return_dict_in_generate",
    "return_legacy_cache",
    "target_lookbehind",
    "trust_remote_code",
    "use_cache",
    "use_model_defaults",
];

/// Fields that only affect sampling.
const SAMPLED: [&str; 4] = ["temperature", "top_k", "top_p", "min_p"];

/// Fields whose neutral value is 1.
const NEUTRAL_AT_ONE: [&str; 6] = [
    "encoder_repetition_penalty",
    "guidance_scale",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "typical_p",
];

/// Generation defaults of a checkpoint; every field is optional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Whether to sample; false means greedy.
    pub do_sample: Option<bool>,
    /// Divides the logits.
    pub temperature: Option<f32>,
    /// Keeps the k most likely tokens.
    pub top_k: Option<u32>,
    /// Keeps the most likely tokens that together reach this probability.
    pub top_p: Option<f32>,
    /// Keeps tokens of at least this share of the largest probability.
    pub min_p: Option<f32>,
    /// Divides logits of tokens seen before.
    pub repetition_penalty: Option<f32>,
    /// Maximum number of tokens to generate.
    pub max_new_tokens: Option<u32>,
    /// Maximum number of tokens of prompt and text together; ignored if `max_new_tokens` is set.
    pub max_length: Option<u32>,
    /// Minimum number of tokens before an end token may be chosen.
    pub min_new_tokens: Option<u32>,
    /// Minimum number of tokens of prompt and text together before an end token may be chosen.
    pub min_length: Option<u32>,
    /// Tokens that are never chosen.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that are never chosen first.
    pub begin_suppress_tokens: Vec<u32>,
    /// Token sequences that are never completed.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Length of the token sequences that may not occur twice.
    pub no_repeat_ngram_size: Option<u32>,
    /// Texts that end generation.
    pub stop_strings: Vec<String>,
    /// First token of a text after a prompt of one token.
    pub forced_bos_token_id: Option<u32>,
    /// Allowed last tokens if the number of tokens is limited.
    pub forced_eos_token_ids: Vec<u32>,
    /// Begin token.
    pub bos_token_id: Option<u32>,
    /// End tokens.
    pub eos_token_ids: Vec<u32>,
    /// Padding token.
    pub pad_token_id: Option<u32>,
    /// Fields of the file that have no effect in this library, such as `num_beams`.
    pub not_obeyed: Vec<String>,
    /// Fields with unsupported values, by name. They count as absent above; [`Self::check`] returns the error for a field that is to be used.
    pub invalid: BTreeMap<&'static str, InvalidField>,
}

/// A field of `generation_config.json` with an unsupported value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidField {
    /// Path of the file.
    pub file: String,
    /// The value.
    pub value: String,
    /// Supported values.
    pub supported: String,
}

impl GenerationConfig {
    /// Error for a special id, from this file or else from `config.json`, that is not below the size of the vocabulary.
    pub(crate) fn no_such_token(&self, source: &Source, (id, vocab): (u32, u32)) -> Error {
        let here = self.bos_token_id == Some(id) || self.pad_token_id == Some(id) || self.eos_token_ids.contains(&id);
        let file = source.describe(if here { FILE } else { "config.json" });
        Error::Tokenizer {
            file,
            problem: format!("special token id {id} does not exist: the model has {vocab} tokens"),
        }
    }

    /// Reads `generation_config.json`; without the file no default is set. An unsupported value matters only if the default is used, so it is kept in
    /// [`Self::invalid`]. The begin, end and padding tokens are always used, so they are checked here.
    ///
    /// # Errors
    /// Name the field of a token id, its value and what is supported; [`Error::Json`] if the file does not parse.
    pub fn open(source: &Source) -> Result<Self> {
        let name = FILE;
        if !source.exists(name) {
            return Ok(Self::default());
        }
        let fields = Fields { file: source.describe(name), value: source.json(name)? };
        let share = |field| match fields.number(field)? {
            Some(value) if !(0.0..=1.0).contains(&value) => Err(fields.unsupported(field, "a number from 0 to 1")),
            value => Ok(value.map(|value| value as f32)),
        };
        let temperature = match fields.number("temperature") {
            Ok(Some(value)) if value < 0.0 || !(value as f32).is_finite() => {
                Err(fields.unsupported("temperature", "a number of at least 0; 0 is greedy"))
            }
            value => value.map(|value| value.map(|value| value as f32)),
        };
        // Some servers write -1 to disable the filter.
        let top_k = if fields.is_minus_one("top_k") { Ok(Some(0)) } else { fields.whole("top_k", 0, 1 << 22) };
        let least = |field| fields.whole(field, 0, u32::MAX).map(|found| found.filter(|&tokens| tokens > 0));
        let ngram = fields.whole("no_repeat_ngram_size", 0, 1024).map(|found| found.filter(|&tokens| tokens > 1));
        let mut invalid = BTreeMap::new();
        Ok(Self {
            do_sample: later(&mut invalid, fields.flag("do_sample"))?,
            temperature: later(&mut invalid, temperature)?,
            top_k: later(&mut invalid, top_k)?,
            // A top_p of 0 disables the filter in the authors' code.
            top_p: later(&mut invalid, share("top_p"))?.filter(|&value| value > 0.0),
            min_p: later(&mut invalid, share("min_p"))?,
            repetition_penalty: later(&mut invalid, fields.positive("repetition_penalty"))?.map(|value| value as f32),
            max_new_tokens: later(&mut invalid, fields.whole("max_new_tokens", 1, u32::MAX))?,
            max_length: later(&mut invalid, fields.whole("max_length", 1, u32::MAX))?,
            min_new_tokens: later(&mut invalid, least("min_new_tokens"))?,
            min_length: later(&mut invalid, least("min_length"))?,
            suppress_tokens: later(&mut invalid, fields.tokens("suppress_tokens"))?,
            begin_suppress_tokens: later(&mut invalid, fields.tokens("begin_suppress_tokens"))?,
            bad_words_ids: later(&mut invalid, read_words(&fields))?,
            no_repeat_ngram_size: later(&mut invalid, ngram)?,
            stop_strings: later(&mut invalid, read_texts(&fields))?,
            forced_bos_token_id: later(&mut invalid, fields.token("forced_bos_token_id"))?,
            forced_eos_token_ids: later(&mut invalid, fields.tokens("forced_eos_token_id"))?,
            bos_token_id: fields.token("bos_token_id")?,
            eos_token_ids: fields.tokens("eos_token_id")?,
            pad_token_id: fields.token("pad_token_id")?,
            not_obeyed: not_obeyed(&fields.value),
            invalid,
        })
    }

    /// Checks a field before its use.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the value is not supported.
    pub fn check(&self, field: &str) -> Result<()> {
        let Some((&field, InvalidField { file, value, supported })) = self.invalid.get_key_value(field) else {
            return Ok(());
        };
        let (file, value, supported) = (file.clone(), value.clone(), supported.clone());
        Err(Error::Unsupported { file, field, value, supported })
    }

    /// Checks every field that [`Self::options`] uses, except those in `given`, for which the caller has values. Without sampling, filters are not checked,
    /// because they have no effect.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for the first field with an unsupported value.
    pub fn check_used(&self, given: &[&str]) -> Result<()> {
        let is_greedy = self.do_sample == Some(false) || self.temperature == Some(0.0);
        let sampled: &[&str] = if is_greedy && !given.contains(&"temperature") { &SAMPLED } else { &[] };
        let used = |field: &&&str| !given.contains(field) && !sampled.contains(field);
        self.invalid.keys().filter(used).try_for_each(|field| self.check(field))
    }

    /// Sampling parameters from this file, else the library's defaults.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        let usual = Sampling::default();
        let greedy = (self.do_sample == Some(false)).then_some(0.0);
        Sampling {
            temperature: greedy.or(self.temperature).unwrap_or(usual.temperature),
            top_k: self.top_k.unwrap_or(usual.top_k),
            top_p: self.top_p.unwrap_or(usual.top_p),
            min_p: self.min_p.unwrap_or(usual.min_p),
            repeat_penalty: self.repetition_penalty.unwrap_or(usual.repeat_penalty),
            ..usual
        }
    }

    /// Generation options from this file, else the library's defaults. Token ids of `vocab` or more are omitted.
    #[must_use]
    pub fn options(&self, vocab: u32) -> GenerateOptions {
        let known = |tokens: &[u32]| tokens.iter().copied().filter(|&token| token < vocab).collect::<Vec<_>>();
        let mut never = known(&self.suppress_tokens);
        never.extend(self.bad_words_ids.iter().filter(|word| word.len() == 1).flat_map(|word| known(word)));
        never.sort_unstable();
        never.dedup();
        let words = self.bad_words_ids.iter().filter(|word| word.len() > 1);
        GenerateOptions {
            max_tokens: self.max_new_tokens,
            max_length: self.max_length.filter(|_| self.max_new_tokens.is_none()),
            min_tokens: self.min_new_tokens,
            min_length: self.min_length,
            sampling: self.sampling(),
            logit_bias: never.into_iter().map(|token| (token, f32::NEG_INFINITY)).collect(),
            begin_suppress: known(&self.begin_suppress_tokens),
            bad_words: words.filter(|word| word.iter().all(|&token| token < vocab)).cloned().collect(),
            no_repeat_ngram: self.no_repeat_ngram_size,
            forced_begin: self.forced_bos_token_id.filter(|&token| token < vocab),
            forced_end: known(&self.forced_eos_token_ids),
            stop: self.stop_strings.clone(),
            ..GenerateOptions::default()
        }
    }
}

/// Records an unsupported value as invalid instead of failing.
fn later<T: Default>(invalid: &mut BTreeMap<&'static str, InvalidField>, read: Result<T>) -> Result<T> {
    match read {
        Err(Error::Unsupported { file, field, value, supported }) => {
            invalid.insert(field, InvalidField { file, value, supported });
            Ok(T::default())
        }
        read => read,
    }
}

/// Reads lists of token ids.
fn read_words(fields: &Fields) -> Result<Vec<Vec<u32>>> {
    let wrong = || fields.unsupported("bad_words_ids", "a list of lists of token ids");
    let Some(value) = fields.get("bad_words_ids") else { return Ok(Vec::new()) };
    let words: Vec<Vec<u32>> = serde_json::from_value(value.clone()).map_err(|_| wrong())?;
    if words.iter().any(Vec::is_empty) { Err(wrong()) } else { Ok(words) }
}

/// Reads a string or a list of strings.
fn read_texts(fields: &Fields) -> Result<Vec<String>> {
    let wrong = || fields.unsupported("stop_strings", "a nonempty string, or a list of nonempty strings");
    let texts = match fields.get("stop_strings") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(list) => serde_json::from_value(list.clone()).map_err(|_| wrong())?,
    };
    if texts.iter().any(String::is_empty) { Err(wrong()) } else { Ok(texts) }
}

/// Fields that neither take effect nor are neutral.
fn not_obeyed(file: &Value) -> Vec<String> {
    let neutral = |name: &str, value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(if NEUTRAL_AT_ONE.contains(&name) { 1.0 } else { 0.0 }),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) => false,
    };
    let fields = file.as_object().into_iter().flatten();
    let open = fields.filter(|(name, value)| {
        let single = *name == "no_repeat_ngram_size" && value.as_u64() == Some(1);
        let known = OBEYED.contains(&name.as_str()) || INERT.contains(&name.as_str());
        single || !known && !neutral(name, value)
    });
    open.map(|(name, _)| name.clone()).collect()
}
