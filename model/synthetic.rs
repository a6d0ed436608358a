//! Models of any shape with random weights: to measure a machine before downloading 15 GB, and to test at full size.
//!
//! A synthetic model has everything that a published checkpoint has: configuration, tokenizer, chat template, and tensors under the published names, drawn at
//! the reference's initial scale ("takase": standard deviation sqrt(2 / (5 n_embd)), projections back into the residual stream divided by sqrt(2 · effective
//! depth)). Its text is noise. A seed gives the same weights, bit for bit, whether they are drawn on a device or written into files.

use std::fmt::Write;
use std::sync::Arc;

use ruminate_shaders::Threefry;
use ruminate_shaders::weight::RandomWeight;
use serde_json::{Map, Value, json};

use crate::arch::{Drawn, Entry, Manifest, Spec, Start, shapes};
use crate::error::{Error, Result};
use crate::source::Source;

/// Special tokens, which take the last ids of the vocabulary, as in the published tokenizer.
const SPECIALS: [&str; 6] =
    ["<|begin_text|>", "<|end_text|>", "<|begin_header|>", "<|end_header|>", "<|end_turn|>", "<|pad|>"];

/// Ids reserved for special tokens.
const SPECIAL_IDS: u32 = 32;

/// Chat template of the published models.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}\
    <|begin_header|>{{ 'Huginn' if message.role == 'assistant' else message.role }}<|end_header|>\n\n\
    {{ message.content | trim }}<|end_turn|>{% endfor %}\
    {% if add_generation_prompt %}<|begin_header|>Huginn<|end_header|>\n\n{% endif %}";

/// Name of the specification in messages.
const FILE: &str = "synthetic model";

/// A model of a given shape with random weights.
#[derive(Clone, Debug)]
pub struct Synthetic {
    spec: Spec,
    json: Value,
    seed: u64,
    std: f64,
    out_std: f64,
}

/// A tensor of a synthetic model.
#[derive(Clone, Debug, PartialEq)]
pub struct SyntheticTensor {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Contents.
    pub values: Values,
}

/// Contents of a synthetic tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// Random numbers: rows of a matrix, from the given row on.
    Random(RandomWeight, u32),
    /// Ones: norms.
    Ones,
    /// Zeros: biases.
    Zeros,
    /// The rotary table.
    Rotary,
}

impl Synthetic {
    /// Parses the shape of a published model with some fields replaced: `huginn-0125`, or `ouro-1.4b,num_hidden_layers=4`, or, for Huginn's shape,
    /// `n_embd=768,heads=8`. The fields are those of `config.json` (with the short names `heads`, `hidden`, `vocab`, `layers`), and `seed`.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown word, [`Error::Unsupported`] for an invalid value.
    pub fn parse(spec: &str) -> Result<Self> {
        let names = shapes().map(|(_, published)| published.name).collect::<Vec<_>>().join(", ");
        let wrong = |value: &str| Error::Option {
            name: "synthetic model",
            value: format!("`{value}`; published shapes: {names}"),
            allowed: "a published shape, fields of config.json, or both, such as n_embd=768,heads=8,hidden=2048,layers=2/4/2,vocab=65536,seed=1",
        };
        let words = || spec.split(',').map(str::trim).filter(|word| !word.is_empty());
        if words().next().is_none() {
            return Err(wrong(spec));
        }
        let named = words().find_map(|word| shapes().find(|(_, published)| published.name == word));
        let (arch, published) = named.or_else(|| shapes().next()).ok_or_else(|| wrong(spec))?;
        let preset = published.name;
        let mut given = Map::new();
        let mut seed = 0;
        for word in words().filter(|word| *word != preset) {
            let (key, text) = word.split_once('=').ok_or_else(|| wrong(word))?;
            if key == "seed" {
                seed = text.parse().map_err(|_| wrong(word))?;
            } else if !arch.set(key, text, &mut given) {
                return Err(wrong(word));
            }
        }
        Self::new(arch.shape(preset, given), seed)
    }

    fn new(fields: Map<String, Value>, seed: u64) -> Result<Self> {
        let spec = Spec::from_value(FILE, Value::Object(fields.clone()))?;
        if spec.vocab < 256 + SPECIAL_IDS {
            return Err(Error::Unsupported {
                file: FILE.to_owned(),
                field: "vocab_size",
                value: spec.vocab.to_string(),
                supported: format!("at least {}: every byte and {SPECIAL_IDS} special tokens", 256 + SPECIAL_IDS),
            });
        }
        let std = match spec.start {
            Start::Drawn { std } => std,
            Start::Embedding => (2.0 / (5.0 * f64::from(spec.width))).sqrt(),
        };
        let depth = f64::from(spec.layers.outside()) + f64::from(spec.layers.core) * f64::from(spec.steps.default);
        let out_std = std / (2.0 * depth.max(1.0)).sqrt();
        Ok(Self { spec, json: Value::Object(fields), seed, std, out_std })
    }

    /// Converts the model into a source to open.
    #[must_use]
    pub fn source(self) -> Source {
        Source::Synthetic(Arc::new(self))
    }

    /// Specification of the model.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Everything that determines the weights.
    pub(crate) fn recipe(&self) -> String {
        format!("{:?}, seed {}, {}, projections back {}", self.spec, self.seed, self.std, self.out_std)
    }

    /// All tensors, in the order of the published files.
    #[must_use]
    pub fn tensors(&self) -> Vec<SyntheticTensor> {
        let manifest = self.spec.manifest();
        let made = manifest.tensors().filter_map(|tensor| self.made(&manifest, &tensor.name));
        // Published files contain a second copy of a tied head.
        let copy =
            |(name, copy): (&str, &str)| Some(SyntheticTensor { name: copy.to_owned(), ..self.made(&manifest, name)? });
        made.chain(manifest.copies().filter_map(copy)).collect()
    }

    /// Files beside the weights: names and contents.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let names = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
        names.into_iter().filter_map(|name| Some((name, self.file(name)?))).collect()
    }

    /// One of the files beside the weights.
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

    /// Finds a tensor by name.
    pub(crate) fn tensor(&self, name: &str) -> Result<SyntheticTensor> {
        let missing = || {
            let problem = crate::error::TensorProblem::Missing { name: name.to_owned(), shape: Vec::new() };
            Error::Tensors(vec![problem])
        };
        self.made(&self.spec.manifest(), name).ok_or_else(missing)
    }

    /// Generator of a matrix.
    pub(crate) fn weight(&self, entry: &Entry) -> RandomWeight {
        let [_, k] = entry.matrix().unwrap_or_default();
        let std = if entry.drawn == Drawn::Back { self.out_std } else { self.std };
        RandomWeight { seed: self.seed_of(entry.name()), k, std }
    }

    fn made(&self, manifest: &Manifest, name: &str) -> Option<SyntheticTensor> {
        let (entry, source, first) = manifest.of_tensor(name)?;
        let values = match entry.drawn {
            Drawn::Inner | Drawn::Back => Values::Random(self.weight(entry), first),
            Drawn::Ones => Values::Ones,
            Drawn::Zeros => Values::Zeros,
            Drawn::Computed => Values::Rotary,
        };
        Some(SyntheticTensor { name: source.name.clone(), shape: source.shape.clone(), values })
    }

    /// Seed of a tensor: the model's seed, into which the tensor's name is absorbed four bytes at a time.
    fn seed_of(&self, name: &str) -> u64 {
        name.as_bytes().chunks(4).fold(self.seed, |key, chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            let [low, high] = Threefry::new(key).block([u32::from_le_bytes(word), chunk.len() as u32]);
            u64::from(high) << 32 | u64::from(low)
        })
    }

    fn special_id(&self, token: usize) -> u32 {
        self.spec.vocab - SPECIAL_IDS + token as u32
    }

    /// Byte-level tokenizer without merges: one token per byte, made-up words that only the model produces, and special tokens.
    fn tokenizer(&self) -> Value {
        let mut vocab = Map::new();
        for byte in 0..=255_u8 {
            vocab.insert(byte_letter(byte).to_string(), byte.into());
        }
        for id in 256..self.spec.vocab - SPECIAL_IDS {
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

/// Letter for a byte in GPT-2's byte-level vocabulary: the byte itself if it is printable, else a character from U+0100 on.
fn byte_letter(byte: u8) -> char {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if prints(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !prints(byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or('\u{fffd}')
}

/// Made-up word for a number, with a space before it.
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
