//! Text to token ids and back, with special tokens as the checkpoint's files name them.

mod digits;
mod layout;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use self::digits::Digits;
use self::layout::Layout;
use crate::config::{Config, GenerationConfig};
use crate::error::{Error, Result};
use crate::source::Source;

const FILE: &str = "tokenizer.json";

/// Which special tokens are put round an encoded text. Special tokens written out in the text itself are always recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// None: for text that a chat template has rendered.
    None,
    /// The begin token, unless the text begins with it already: for a prompt to be continued.
    Bos,
    /// Whatever the tokenizer's post-processor adds.
    PostProcessor,
}

/// A checkpoint's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
    pieces: Arc<Vec<Token>>,
    digits: Option<Digits>,
    /// Bytes of text that one token stands for, at most; none if a normalizer may change how many there are.
    longest: Option<usize>,
    bos: Option<u32>,
    pad: Option<u32>,
    eos: Vec<u32>,
}

/// The bytes that a token stands for.
#[derive(Clone, Debug, Default)]
struct Token {
    bytes: Vec<u8>,
    special: bool,
}

impl Tokenizer {
    /// Loads `tokenizer.json`. Special ids come from `generation_config.json`, else `config.json`, else the names in
    /// `tokenizer_config.json` or `special_tokens_map.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a file is damaged, [`Error::Vocabulary`] if it belongs to another model.
    pub fn open(source: &Source, config: &Config, generation: &GenerationConfig) -> Result<Self> {
        let file = source.describe(FILE);
        let problem = |problem: String| Error::Tokenizer { file: file.clone(), problem };
        let bytes = source.json_text(FILE)?;
        let layout = Layout::read(&bytes).map_err(problem)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| problem(error.to_string()))?;
        // Settings for training batches, which would cut prompts short or fill them up.
        inner.with_padding(None).with_truncation(None).map_err(|error| problem(error.to_string()))?;
        let vocabulary = inner.get_vocab(true);
        let vocab = config.padded_vocab_size;
        let largest = vocabulary.values().copied().max().ok_or_else(|| problem("has no tokens".to_owned()))?;
        if largest >= vocab {
            return Err(Error::Vocabulary { largest, vocab });
        }
        let named = Named::open(source)?;
        let by_name = |field: &str| named.token(field).and_then(|text| vocabulary.get(text).copied());
        let bos = generation.bos_token_id.or(config.bos_token_id).or_else(|| by_name("bos_token"));
        let pad = generation.pad_token_id.or(config.pad_token_id).or_else(|| by_name("pad_token"));
        let mut eos = generation.eos_token_ids.clone();
        if eos.is_empty() {
            eos.clone_from(&config.eos_token_ids);
        }
        eos.extend(["eos_token", "eot_token"].into_iter().filter_map(by_name));
        // A model that begins another text has ended this one.
        eos.extend(bos);
        eos.sort_unstable();
        eos.dedup();
        if let Some(&id) = eos.iter().chain(&bos).chain(&pad).find(|&&id| id >= vocab) {
            return Err(problem(format!("special token id {id} does not exist: the model has {vocab} tokens")));
        }
        let pieces = Arc::new(pieces(&inner, &vocabulary, vocab));
        let longest = pieces.iter().map(|token| token.bytes.len()).max().filter(|_| inner.get_normalizer().is_none());
        Ok(Self { inner, file, pieces, digits: Digits::of(&layout), longest, bos, pad, eos })
    }

    /// Encodes text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails, or has no begin token where one is asked for.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        let problem = |problem: String| Error::Tokenizer { file: self.file.clone(), problem };
        let processed = specials == Specials::PostProcessor;
        let parts = match self.digits {
            Some(digits) if !processed => digits.cut(text),
            _ => vec![text],
        };
        let mut ids = Vec::new();
        for part in parts {
            let encoding = self.inner.encode_fast(part, processed).map_err(|error| problem(error.to_string()))?;
            ids.extend_from_slice(encoding.get_ids());
        }
        if specials == Specials::Bos && ids.first() != self.bos.as_ref() {
            let bos = self.bos.ok_or_else(|| problem("names no begin token; encode without it".to_owned()))?;
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The least number of tokens that a text can have. It is known without reading the text, where encoding takes its time.
    #[must_use]
    pub fn least(&self, text: &str) -> usize {
        self.longest.map_or(0, |longest| text.len().div_ceil(longest.max(1)))
    }

    /// Decodes token ids; bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = self.stream(skip_special);
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        text.push_str(&stream.flush());
        text
    }

    /// A decoder for ids that come one at a time.
    #[must_use]
    pub fn stream(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder { pieces: Arc::clone(&self.pieces), skip_special, open: Vec::new() }
    }

    /// The begin token.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Tokens that end a text: all end tokens that the files name, and the begin token of another text.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// A token as the vocabulary spells it: special tokens as written, others in the byte-level alphabet.
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The tokens whose text holds another text, special ones included, in order.
    #[must_use]
    pub fn holding(&self, text: &str) -> Vec<u32> {
        let holds = |token: &Token| token.bytes.windows(text.len().max(1)).any(|part| part == text.as_bytes());
        (0..).zip(self.pieces.iter()).filter(|(_, token)| holds(token)).map(|(id, _)| id).collect()
    }

    /// Whether a token is a mark of the format, not text.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.get(id as usize).is_some_and(|token| token.special)
    }

    /// The padding token.
    #[must_use]
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }
}

/// Decodes a stream of ids without ever splitting a character or changing what it has given out.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    pieces: Arc<Vec<Token>>,
    skip_special: bool,
    open: Vec<u8>,
}

impl StreamDecoder {
    /// Takes a token; gives the characters that are complete with it. An unknown id has no text.
    pub fn push(&mut self, id: u32) -> String {
        if let Some(token) = self.pieces.get(id as usize).filter(|token| !(self.skip_special && token.special)) {
            self.open.extend_from_slice(&token.bytes);
        }
        let mut text = String::new();
        loop {
            let error = match std::str::from_utf8(&self.open) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.open.clear();
                    return text;
                }
                Err(error) => error,
            };
            let valid = error.valid_up_to();
            text.push_str(&String::from_utf8_lossy(&self.open[..valid]));
            let Some(wrong) = error.error_len() else {
                self.open.drain(..valid);
                return text;
            };
            text.push(char::REPLACEMENT_CHARACTER);
            self.open.drain(..valid + wrong);
        }
    }

    /// Ends the stream: half a character becomes U+FFFD.
    pub fn flush(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.open).into_owned();
        self.open.clear();
        text
    }
}

/// Names of special tokens in the files beside the tokenizer.
struct Named(Vec<Value>);

impl Named {
    fn open(source: &Source) -> Result<Self> {
        let files = ["tokenizer_config.json", "special_tokens_map.json"].into_iter().filter(|name| source.exists(name));
        Ok(Self(files.map(|name| source.json(name)).collect::<Result<_>>()?))
    }

    /// A token's text: a string, or an object with `content`.
    fn token(&self, field: &str) -> Option<&str> {
        self.0.iter().find_map(|file| {
            let value = file.get(field)?;
            value.as_str().or_else(|| value.get("content")?.as_str())
        })
    }
}

/// The bytes of every token: through the byte-level alphabet, or as written for added tokens.
fn pieces(inner: &tokenizers::Tokenizer, vocabulary: &HashMap<String, u32>, vocab: u32) -> Vec<Token> {
    let alphabet: HashMap<char, u8> = byte_alphabet().collect();
    let added = inner.get_added_tokens_decoder();
    let mut pieces = vec![Token::default(); vocab as usize];
    for (text, &id) in vocabulary {
        let known = added.get(&id);
        let through_alphabet = || text.chars().map(|c| alphabet.get(&c).copied()).collect::<Option<Vec<u8>>>();
        let bytes = if known.is_some() { None } else { through_alphabet() };
        let special = known.is_some_and(|token| token.special);
        pieces[id as usize] = Token { bytes: bytes.unwrap_or_else(|| text.clone().into_bytes()), special };
    }
    pieces
}

/// GPT-2's byte-level alphabet: printable characters stand for themselves, other bytes for characters from U+0100 on.
fn byte_alphabet() -> impl Iterator<Item = (char, u8)> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100_u32;
    (0..=u8::MAX).map(move |byte| {
        if printable(byte) {
            return (char::from(byte), byte);
        }
        next += 1;
        (char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER), byte)
    })
}
