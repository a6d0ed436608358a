//! Models with random weights of any shape: to see what a machine can do before 15 GB are downloaded, and to test at full size.
//!
//! A synthetic model has everything that a published checkpoint has: configuration, tokenizer, chat template, and tensors under the
//! published names, drawn at the reference's initial scale ("takase": standard deviation sqrt(2 / (5 n_embd)), projections back into the
//! residual stream divided by sqrt(2 · effective depth)). Its text is noise. The same seed gives the same weights whether they are made
//! on a device or written into files, bit for bit.

use std::fmt::Write;
use std::sync::Arc;

use ruminate_shaders::Threefry;
use ruminate_shaders::weight::RandomWeight;
use serde_json::{Map, Value, json};

use crate::checkpoint::Expected;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::source::Source;

/// Special tokens, which take the last ids of the vocabulary, as in the published tokenizer.
const SPECIALS: [&str; 6] =
    ["<|begin_text|>", "<|end_text|>", "<|begin_header|>", "<|end_header|>", "<|end_turn|>", "<|pad|>"];

/// Ids that are kept for special tokens.
const SPECIAL_IDS: u32 = 32;

/// How a message is rendered: the published format.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}\
    <|begin_header|>{{ 'Huginn' if message.role == 'assistant' else message.role }}<|end_header|>\n\n\
    {{ message.content | trim }}<|end_turn|>{% endfor %}\
    {% if add_generation_prompt %}<|begin_header|>Huginn<|end_header|>\n\n{% endif %}";

/// Name that a specification gives in messages.
const FILE: &str = "synthetic model";

/// A model of a given shape with random weights.
#[derive(Clone, Debug)]
pub struct Synthetic {
    config: Config,
    json: Value,
    seed: u64,
    out_std: f64,
}

/// A tensor of a synthetic model.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticTensor {
    /// Name in the checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it holds.
    pub values: Values,
}

/// What a synthetic tensor holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// Random numbers.
    Random(RandomWeight),
    /// Ones: norms.
    Ones,
    /// Zeros: biases.
    Zeros,
    /// The rotary table.
    Rotary,
}

impl Synthetic {
    /// Huginn-0125's shape, with the fields that `spec` names set otherwise: `huginn-0125`, or `n_embd=768,heads=8`, or both. The fields are those
    /// of `config.json` (with the short names `heads`, `hidden`, `vocab`, `layers=P/C/D`), and `seed`. Without a number of heads, heads have
    /// 96 values; without a hidden width, it keeps Huginn's ratio.
    ///
    /// # Errors
    /// [`Error::Option`] for a word that is none of these, [`Error::Unsupported`] for a value that makes no model.
    pub fn parse(spec: &str) -> Result<Self> {
        let wrong = |value: &str| Error::Option {
            name: "synthetic model",
            value: format!("`{value}`"),
            allowed: "huginn-0125, or fields of config.json like n_embd=768,heads=8,hidden=2048,layers=2/4/2,vocab=65536,seed=1",
        };
        let mut fields = Map::new();
        let mut seed = 0;
        for word in spec.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "huginn-0125") {
            let (key, text) = word.split_once('=').ok_or_else(|| wrong(word))?;
            let key = match key {
                "heads" => "n_heads",
                "hidden" => "intermediate_size",
                "vocab" => "vocab_size",
                other => other,
            };
            match key {
                "seed" => seed = text.parse().map_err(|_| wrong(word))?,
                "layers" => {
                    let counts: Vec<u32> = text.split('/').filter_map(|count| count.parse().ok()).collect();
                    let [prelude, core, coda] = counts[..] else { return Err(wrong(word)) };
                    fields.insert("n_layers_in_prelude".to_owned(), prelude.into());
                    fields.insert("n_layers_in_recurrent_block".to_owned(), core.into());
                    fields.insert("n_layers_in_coda".to_owned(), coda.into());
                }
                _ if FIELDS.contains(&key) => {
                    // Numbers and flags are JSON as they stand.
                    let value = serde_json::from_str(text).map_err(|_| wrong(word))?;
                    fields.insert(key.to_owned(), value);
                }
                _ => return Err(wrong(word)),
            }
        }
        if spec.trim().is_empty() {
            return Err(wrong(spec));
        }
        Self::new(fields, seed)
    }

    fn new(mut fields: Map<String, Value>, seed: u64) -> Result<Self> {
        let n_embd = fields.get("n_embd").and_then(Value::as_u64).unwrap_or(5280);
        let mut default = |name: &str, value: Value| {
            fields.entry(name).or_insert(value);
        };
        default("n_embd", n_embd.into());
        default("n_heads", (n_embd / 96).max(1).into());
        default("intermediate_size", (n_embd * 17_920 / 5280).next_multiple_of(32).into());
        for (name, value) in [
            ("vocab_size", 65_536),
            ("n_layers_in_prelude", 2),
            ("n_layers_in_recurrent_block", 4),
            ("n_layers_in_coda", 2),
            ("mean_recurrence", 32),
            ("block_size", 4096),
            ("rope_base", 50_000),
        ] {
            default(name, value.into());
        }
        for (name, value) in [("norm_eps", json!(1e-6)), ("qk_bias", json!(true)), ("tie_embeddings", json!(true))] {
            default(name, value);
        }
        let count = |name: &str| fields.get(name).and_then(Value::as_f64).unwrap_or(1.0);
        let depth = count("n_layers_in_prelude")
            + count("n_layers_in_coda")
            + count("n_layers_in_recurrent_block") * count("mean_recurrence");
        let width = n_embd.max(1) as f64;
        let std = (2.0 / (5.0 * width)).sqrt();
        let out_std = std / (2.0 * depth.max(1.0)).sqrt();
        let fixed = json!({
            "architectures": ["RavenForCausalLM"],
            "model_type": "huginn_raven",
            "bias": false,
            "injection_type": "linear",
            "state_init": "like-init",
            "block_class_name": "SandwichBlock",
            "mlp_class_name": "GatedMLP",
            "nonlin_name": "SiLU",
            "norm_class_name": "RMSNorm_llama",
            "init_values": {"std": std, "out_proj": out_std, "embedding": std, "embed_scale": width.sqrt()},
            "test_time_noise": 0,
            "torch_dtype": "float32",
        });
        if let Value::Object(fixed) = fixed {
            fields.extend(fixed);
        }
        let vocab = fields.get("vocab_size").cloned().unwrap_or_default();
        fields.entry("padded_vocab_size").or_insert(vocab);
        let config = Config::from_value(FILE, Value::Object(fields.clone()))?;
        if config.vocab_size < 256 + SPECIAL_IDS {
            return Err(Error::Unsupported {
                file: FILE.to_owned(),
                field: "vocab_size",
                value: config.vocab_size.to_string(),
                supported: format!("at least {}: every byte and {SPECIAL_IDS} special tokens", 256 + SPECIAL_IDS),
            });
        }
        Ok(Self { config, json: Value::Object(fields), seed, out_std })
    }

    /// The model as a source to open.
    #[must_use]
    pub fn source(self) -> Source {
        Source::Synthetic(Arc::new(self))
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All that the weights are made from.
    pub(crate) fn recipe(&self) -> String {
        format!("{:?}, seed {}, projections back {}", self.config, self.seed, self.out_std)
    }

    /// Every tensor, in the order of the published files: rotary table, embedding, prelude, adapter, core, coda, final norm, and the head.
    #[must_use]
    pub fn tensors(&self) -> Vec<SyntheticTensor> {
        let tensors = self.config.tensors().into_iter();
        tensors
            .map(|Expected { name, shape, .. }| SyntheticTensor { values: self.values(&name, &shape), name, shape })
            .collect()
    }

    /// The files beside the weights: name and content.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let names = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
        names.into_iter().filter_map(|name| Some((name, self.file(name)?))).collect()
    }

    /// One of these files.
    pub(crate) fn file(&self, name: &str) -> Option<String> {
        let id = |token: usize| self.special_id(token);
        let value = match name {
            "config.json" => self.json.clone(),
            "generation_config.json" => json!({
                "bos_token_id": id(0), "eos_token_id": [id(1), id(4)], "pad_token_id": id(5), "do_sample": true, "temperature": 0.7,
            }),
            "tokenizer.json" => self.tokenizer(),
            "tokenizer_config.json" => json!({
                "bos_token": SPECIALS[0], "eos_token": SPECIALS[1], "pad_token": SPECIALS[5], "chat_template": CHAT_TEMPLATE,
            }),
            _ => return None,
        };
        serde_json::to_string_pretty(&value).ok()
    }

    /// A tensor by name.
    pub(crate) fn tensor(&self, name: &str) -> Result<SyntheticTensor> {
        let found = self.config.tensors().into_iter().find(|tensor| tensor.name == name);
        let missing = || {
            let problem = crate::error::TensorProblem::Missing { name: name.to_owned(), shape: Vec::new() };
            Error::Tensors(vec![problem])
        };
        let expected = found.ok_or_else(missing)?;
        let values = self.values(name, &expected.shape);
        Ok(SyntheticTensor { name: expected.name, shape: expected.shape, values })
    }

    /// Shape `[n, k]` and generator of a matrix.
    pub(crate) fn matrix(&self, name: &str) -> Result<([u32; 2], RandomWeight)> {
        let tensor = self.tensor(name)?;
        let size = |axis: usize| u32::try_from(tensor.shape[axis]).unwrap_or(u32::MAX);
        match tensor.values {
            Values::Random(weight) => Ok(([size(0), size(1)], weight)),
            _ => Err(Error::Tensors(Vec::new())),
        }
    }

    fn values(&self, name: &str, shape: &[usize]) -> Values {
        if name == "freqs_cis" {
            return Values::Rotary;
        }
        if name.ends_with("qk_bias") {
            return Values::Zeros;
        }
        let [_, k] = shape[..] else { return Values::Ones };
        // A tied head is a copy of the embedding.
        let drawn =
            if self.config.tie_embeddings && name == "lm_head.weight" { "transformer.wte.weight" } else { name };
        let back = drawn.ends_with("attn.proj.weight") || drawn.ends_with("mlp.proj.weight");
        let std = if back { self.out_std } else { self.config.state_std };
        let k = u32::try_from(k).unwrap_or(u32::MAX);
        Values::Random(RandomWeight { seed: self.seed_of(drawn), k, std })
    }

    /// A generator key of its own for every tensor: its name, absorbed four bytes at a time.
    fn seed_of(&self, name: &str) -> u64 {
        name.as_bytes().chunks(4).fold(self.seed, |key, chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            let [low, high] = Threefry::new(key).block([u32::from_le_bytes(word), chunk.len() as u32]);
            u64::from(high) << 32 | u64::from(low)
        })
    }

    fn special_id(&self, token: usize) -> u32 {
        self.config.vocab_size - SPECIAL_IDS + token as u32
    }

    /// A byte-level tokenizer without merges: a token per byte, made-up words that only the model says, special tokens.
    fn tokenizer(&self) -> Value {
        let mut vocab = Map::new();
        for byte in 0..=255_u8 {
            vocab.insert(byte_letter(byte).to_string(), byte.into());
        }
        for id in 256..self.config.vocab_size - SPECIAL_IDS {
            vocab.insert(word(id - 256), id.into());
        }
        let added: Vec<Value> = (0..SPECIAL_IDS as usize)
            .map(|i| {
                let content = SPECIALS.get(i).map_or_else(|| format!("<|reserved_{i}|>"), ToString::to_string);
                json!({
                    "id": self.special_id(i), "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true,
                })
            })
            .collect();
        json!({
            "version": "1.0",
            "added_tokens": added,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        })
    }
}

/// Fields of `config.json` that a specification may set.
const FIELDS: [&str; 16] = [
    "n_embd",
    "n_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "padded_vocab_size",
    "n_layers_in_prelude",
    "n_layers_in_recurrent_block",
    "n_layers_in_coda",
    "mean_recurrence",
    "rope_base",
    "block_size",
    "norm_eps",
    "qk_bias",
    "tie_embeddings",
];

/// The letter that stands for a byte in a byte-level vocabulary (GPT-2's table): itself if it prints, else one from U+0100 on.
fn byte_letter(byte: u8) -> char {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if prints(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !prints(byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or('\u{fffd}')
}

/// A made-up word for every number, with a space before it.
fn word(mut number: u32) -> String {
    let (consonants, vowels) = (b"bdfgklmnprstvz", b"aeiou");
    let mut text = byte_letter(b' ').to_string();
    loop {
        let (consonant, rest) = (number % 14, number / 14);
        let _ =
            write!(text, "{}{}", char::from(consonants[consonant as usize]), char::from(vowels[(rest % 5) as usize]));
        number = rest / 5;
        if number == 0 {
            return text;
        }
        number -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_all_different() {
        let words: HashSet<String> = (0..100_000).map(word).collect();
        assert_eq!(words.len(), 100_000);
    }

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let letters: HashSet<char> = (0..=255).map(byte_letter).collect();
        assert_eq!(letters.len(), 256);
        assert_eq!(byte_letter(b' '), 'Ġ');
        assert_eq!(byte_letter(b'\n'), 'Ċ');
    }
}
