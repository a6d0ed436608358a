//! `config.json`: every field that matters is read, none is assumed, and a value that this engine does
//! not implement is refused by name.

use ruminate_shaders::{Caps, Workload};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::precision::{Dtypes, Group};
use crate::source::Source;

/// The architecture of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Width of the model.
    pub n_embd: u32,
    /// Query heads.
    pub n_heads: u32,
    /// Key and value heads; divides `n_heads`.
    pub num_key_value_heads: u32,
    /// Values per head: even, at most 128.
    pub head_dim: u32,
    /// Width inside the MLP.
    pub intermediate_size: u32,
    /// Tokens.
    pub vocab_size: u32,
    /// Rows of the embedding matrix.
    pub padded_vocab_size: u32,
    /// Blocks before the recurrence.
    pub n_layers_in_prelude: u32,
    /// Blocks that are applied again and again.
    pub n_layers_in_recurrent_block: u32,
    /// Blocks after the recurrence.
    pub n_layers_in_coda: u32,
    /// Steps that the model was trained for on average: the default depth.
    pub mean_recurrence: u32,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Positions, at most.
    pub block_size: u32,
    /// Added to the mean square in norms.
    pub norm_eps: f64,
    /// Whether q and k have a bias.
    pub qk_bias: bool,
    /// Whether the head is the embedding matrix.
    pub tie_embeddings: bool,
    /// Standard deviation of the initial state before scaling.
    pub state_std: f64,
    /// Factor on embeddings and initial states.
    pub embed_scale: f64,
    /// Begin token, if named here.
    pub bos_token_id: Option<u32>,
    /// End tokens, if named here.
    pub eos_token_ids: Vec<u32>,
    /// Padding token, if named here.
    pub pad_token_id: Option<u32>,
    /// The number format that the file claims; the tensors themselves decide.
    pub torch_dtype: Option<String>,
}

impl Config {
    /// What launches of this model look like, in passes of so many rows that look at so many positions at most, with matrices cut to so many
    /// rows, all held as the core's.
    pub fn workload(
        &self,
        dtypes: impl Into<Dtypes>,
        rows: u32,
        positions: u32,
        most_weight_rows: u32,
        caps: Caps,
    ) -> Workload {
        let dtypes = dtypes.into();
        Workload {
            n_embd: self.n_embd,
            heads: self.n_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            hidden: self.intermediate_size,
            vocab: self.padded_vocab_size,
            positions: positions.min(self.block_size),
            dtype: dtypes.of(Group::Core),
            arithmetic: dtypes.products(),
            rows,
            most_weight_rows,
            caps,
        }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// Names the field, its value and what is supported.
    pub fn open(source: &Source) -> Result<Self> {
        let name = "config.json";
        Self::parse(&Fields { file: source.describe(name), value: source.json(name)? })
    }

    /// Reads the text of a `config.json`; `file` names it in messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_value(file: &str, value: Value) -> Result<Self> {
        Self::parse(&Fields { file: file.to_owned(), value })
    }

    fn parse(fields: &Fields) -> Result<Self> {
        fields.one_of("model_type", &["huginn_raven"])?;
        fields.contains("architectures", "RavenForCausalLM")?;
        fields.one_of("injection_type", &["linear"])?;
        fields.one_of("state_init", &["like-init"])?;
        fields.one_of("nonlin_name", &["SiLU"])?;
        fields.one_of("norm_class_name", &["RMSNorm_llama", "RMSNorm"])?;
        fields.one_of("mlp_class_name", &["GatedMLP"])?;
        fields.one_of("block_class_name", &["SandwichBlock"])?;
        fields.one_of("architecture_class_name", &["RecurrentGPT"])?;
        if fields.flag("bias")?.unwrap_or(false) {
            return Err(fields.unsupported("bias", "false"));
        }
        if fields.number("test_time_noise")?.unwrap_or(0.0) != 0.0 {
            return Err(fields.unsupported("test_time_noise", "0"));
        }
        if !matches!(fields.value.get("rope_scaling"), None | Some(Value::Null)) {
            return Err(fields.unsupported("rope_scaling", "null"));
        }

        let n_embd = fields.required("n_embd", 1, 1 << 17)?;
        let spelled = [fields.whole("n_heads", 1, 1 << 12)?, fields.whole("num_attention_heads", 1, 1 << 12)?];
        let n_heads = match spelled {
            [Some(a), Some(b)] if a != b => {
                return Err(fields.unsupported("num_attention_heads", &format!("the same number as n_heads, {a}")));
            }
            [Some(heads), _] | [None, Some(heads)] => heads,
            [None, None] => return Err(fields.missing("n_heads", "n_heads or num_attention_heads, a whole number")),
        };
        let num_key_value_heads = fields.whole("num_key_value_heads", 1, n_heads)?.unwrap_or(n_heads);
        if n_heads % num_key_value_heads != 0 {
            return Err(fields.unsupported("num_key_value_heads", &format!("a divisor of n_heads, {n_heads}")));
        }
        let shared = (n_embd % n_heads == 0).then_some(n_embd / n_heads);
        let head_dim = match fields.whole("head_dim", 2, 128)?.or(shared) {
            Some(head_dim) if head_dim % 2 == 0 && (2..=128).contains(&head_dim) => head_dim,
            _ => {
                let supported =
                    format!("an even number from 2 to 128, by default n_embd / n_heads = {n_embd} / {n_heads}");
                return Err(fields.unsupported("head_dim", &supported));
            }
        };
        let qk_bias = fields.flag("qk_bias")?.unwrap_or(true);
        if qk_bias && num_key_value_heads != n_heads {
            let supported =
                "the same number as n_heads where qk_bias is true, because the bias is stored for equally many heads";
            return Err(fields.unsupported("num_key_value_heads", supported));
        }
        let vocab_size = fields.required("vocab_size", 1, 1 << 22)?;
        let tie_embeddings = match (fields.flag("tie_embeddings")?, fields.flag("tie_word_embeddings")?) {
            (Some(a), Some(b)) if a != b => {
                return Err(fields.unsupported("tie_word_embeddings", &format!("the same as tie_embeddings, {a}")));
            }
            (Some(tied), _) | (None, Some(tied)) => tied,
            (None, None) => true,
        };
        let init = fields.inner("init_values")?;
        Ok(Self {
            n_embd,
            n_heads,
            num_key_value_heads,
            head_dim,
            intermediate_size: fields.required("intermediate_size", 1, 1 << 20)?,
            vocab_size,
            padded_vocab_size: fields.whole("padded_vocab_size", vocab_size, 1 << 22)?.unwrap_or(vocab_size),
            n_layers_in_prelude: fields.required("n_layers_in_prelude", 0, 1024)?,
            n_layers_in_recurrent_block: fields.required("n_layers_in_recurrent_block", 1, 1024)?,
            n_layers_in_coda: fields.required("n_layers_in_coda", 0, 1024)?,
            mean_recurrence: fields.required("mean_recurrence", 1, 1 << 16)?,
            rope_base: fields.positive("rope_base")?.ok_or_else(|| fields.missing("rope_base", "a number above 0"))?,
            block_size: fields.required("block_size", 1, 1 << 20)?,
            norm_eps: fields.positive("norm_eps")?.ok_or_else(|| fields.missing("norm_eps", "a number above 0"))?,
            qk_bias,
            tie_embeddings,
            state_std: init.positive("std")?.unwrap_or_else(|| (2.0 / (5.0 * f64::from(n_embd))).sqrt()),
            embed_scale: init.positive("embed_scale")?.unwrap_or_else(|| f64::from(n_embd).sqrt()),
            bos_token_id: fields.token("bos_token_id")?,
            eos_token_ids: fields.tokens("eos_token_id")?,
            pad_token_id: fields.token("pad_token_id")?,
            torch_dtype: fields.get("torch_dtype").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// Cosine and sine per position and pair of values `[block_size, head_dim/2, 2]`: adjacent pairs, in f32 as the authors compute it.
    #[must_use]
    pub fn freqs_cis(&self) -> Vec<f32> {
        let frequency = |pair: u32| 1.0 / (self.rope_base as f32).powf(2.0 * pair as f32 / self.head_dim as f32);
        (0..self.block_size)
            .flat_map(|position| (0..self.head_dim / 2).map(move |pair| position as f32 * frequency(pair)))
            .flat_map(|angle| [angle.cos(), angle.sin()])
            .collect()
    }

    /// Rows of Wqkv: queries, keys, values.
    #[must_use]
    pub const fn qkv_rows(&self) -> u32 {
        (self.n_heads + 2 * self.num_key_value_heads) * self.head_dim
    }
}

/// A JSON object and the file, or the field of a file, that it comes from. A field that is null counts as absent.
pub(crate) struct Fields {
    pub(crate) file: String,
    pub(crate) value: Value,
}

impl Fields {
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.value.get(field).filter(|value| !value.is_null())
    }

    /// The object in a field; an empty one if there is none.
    pub(crate) fn inner(&self, field: &'static str) -> Result<Self> {
        let value = match self.get(field) {
            None => Value::Object(serde_json::Map::new()),
            Some(value @ Value::Object(_)) => value.clone(),
            Some(_) => return Err(self.unsupported(field, "an object")),
        };
        Ok(Self { file: format!("{}: {field}", self.file), value })
    }

    pub(crate) fn unsupported(&self, field: &'static str, supported: &str) -> Error {
        let value = self.get(field).map_or_else(|| "absent".to_owned(), Value::to_string);
        Error::Unsupported { file: self.file.clone(), field, value, supported: supported.to_owned() }
    }

    pub(crate) fn missing(&self, field: &'static str, expected: &'static str) -> Error {
        Error::Missing { file: self.file.clone(), field, expected }
    }

    /// A field that, if it is there, must hold one of the values that are implemented.
    pub(crate) fn one_of(&self, field: &'static str, supported: &[&str]) -> Result<()> {
        match self.get(field) {
            None => Ok(()),
            Some(Value::String(value)) if supported.contains(&value.as_str()) => Ok(()),
            Some(_) => Err(self.unsupported(field, &supported.join(", "))),
        }
    }

    pub(crate) fn contains(&self, field: &'static str, supported: &'static str) -> Result<()> {
        match self.get(field) {
            None if self.get("model_type").is_some() => Ok(()),
            None => Err(self.missing(field, "[\"RavenForCausalLM\"]")),
            Some(Value::Array(values)) if values.iter().any(|value| value == supported) => Ok(()),
            Some(_) => Err(self.unsupported(field, supported)),
        }
    }

    pub(crate) fn flag(&self, field: &'static str) -> Result<Option<bool>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.unsupported(field, "true, false")),
        }
    }

    pub(crate) fn number(&self, field: &'static str) -> Result<Option<f64>> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|value| value.is_finite()) {
                Some(value) => Ok(Some(value)),
                None => Err(self.unsupported(field, "a number")),
            },
        }
    }

    pub(crate) fn positive(&self, field: &'static str) -> Result<Option<f64>> {
        match self.number(field)? {
            // The device computes in f32, where a tiny number is 0 and a huge one infinite.
            Some(value) if value as f32 <= 0.0 || !(value as f32).is_finite() => {
                Err(self.unsupported(field, "a number above 0 that f32 can hold"))
            }
            value => Ok(value),
        }
    }

    pub(crate) fn whole(&self, field: &'static str, least: u32, most: u32) -> Result<Option<u32>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match whole(value).filter(|value| (least..=most).contains(value)) {
            Some(value) => Ok(Some(value)),
            None => Err(self.unsupported(field, &format!("a whole number from {least} to {most}"))),
        }
    }

    pub(crate) fn required(&self, field: &'static str, least: u32, most: u32) -> Result<u32> {
        self.whole(field, least, most)?.ok_or_else(|| self.missing(field, "a whole number"))
    }

    /// A token id; -1 stands for none, as in older configurations.
    pub(crate) fn token(&self, field: &'static str) -> Result<Option<u32>> {
        if self.is_minus_one(field) { Ok(None) } else { self.whole(field, 0, u32::MAX) }
    }

    pub(crate) fn is_minus_one(&self, field: &str) -> bool {
        self.get(field).is_some_and(is_minus_one)
    }

    /// One token id or a list of them, in which null and -1 stand for none.
    pub(crate) fn tokens(&self, field: &'static str) -> Result<Vec<u32>> {
        let Some(Value::Array(values)) = self.get(field) else { return Ok(self.token(field)?.into_iter().collect()) };
        let ids = values.iter().filter(|value| !value.is_null() && !is_minus_one(value)).map(whole);
        ids.collect::<Option<_>>().ok_or_else(|| self.unsupported(field, "a token id or a list of token ids"))
    }
}

/// A whole number, which Python may write with a point.
fn whole(value: &Value) -> Option<u32> {
    if let Some(value) = value.as_u64() {
        return u32::try_from(value).ok();
    }
    // Its digits say the same without one.
    let float = value.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= f64::from(u32::MAX))?;
    format!("{float:.0}").parse().ok()
}

fn is_minus_one(value: &Value) -> bool {
    value.as_f64() == Some(-1.0)
}
