//! Tokenizer: text to token ids and back, with the special tokens that the checkpoint's files name.

mod added;
mod decoder;
mod layout;
mod named;
mod normalize;
mod pattern;
mod pipeline;
mod shield;
mod specials;
mod stream;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
#[cfg(feature = "structured")]
use std::sync::OnceLock;

use self::layout::Layout;
pub(crate) use self::named::Named;
use self::pipeline::Pipeline;
pub(crate) use self::shield::Shield;
pub use self::specials::Specials;
pub use self::stream::StreamDecoder;
use crate::arch::{Spec, SpecialIds};
#[cfg(feature = "structured")]
use crate::constraint::Vocabulary;
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::source::Source;

const FILE: &str = "tokenizer.json";

/// Tolerated share of a tokenizer's tokens without a row in the embedding: 1 in `BEYOND`.
const BEYOND: usize = 8;

/// Bytes of a text that is encoded without a length check, because encoding it takes little time.
const SMALL: usize = 1 << 20;

/// A checkpoint's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    pipeline: Pipeline,
    file: String,
    pieces: Arc<Vec<Token>>,
    /// Tokens before a text: see [`Specials::Prompt`].
    prefix: Vec<u32>,
    bos: Option<u32>,
    pad: Option<u32>,
    eos: Vec<u32>,
    /// Built when the first grammar is compiled.
    #[cfg(feature = "structured")]
    vocabulary: OnceLock<Arc<Vocabulary>>,
}

/// Bytes of a token, and whether it is special.
#[derive(Clone, Debug, Default)]
struct Token {
    bytes: Vec<u8>,
    special: bool,
}

impl Tokenizer {
    /// Loads `tokenizer.json`. Special ids come from `generation_config.json`, else `config.json`, else the names in `tokenizer_config.json` or
    /// `special_tokens_map.json`. A few tokens may lack a row in the embedding; encoding a text that contains one is an error.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a file is damaged, [`Error::Vocabulary`] if the tokenizer belongs to another model.
    pub fn open(source: &Source, spec: &Spec, generation: &GenerationConfig) -> Result<Self> {
        let file = source.describe(FILE);
        let problem = |problem: String| Error::Tokenizer { file: file.clone(), problem };
        let bytes = source.json_text(FILE)?;
        let pipeline = guarded(|| Pipeline::read(Layout::read(&bytes)?, &bytes)).map_err(problem)?;
        let vocabulary = pipeline.vocabulary();
        let vocab = spec.padded_vocab;
        let largest = vocabulary.values().copied().max().ok_or_else(|| problem("has no tokens".to_owned()))?;
        if vocabulary.values().filter(|&&id| id >= vocab).count() * BEYOND > vocabulary.len() {
            return Err(Error::Vocabulary { largest, vocab });
        }
        let named = Named::open(source)?;
        let by_name = |field: &str| {
            let id = named.token(field).and_then(|text| vocabulary.get(text).copied());
            id.filter(|&id| id < vocab)
        };
        let by_files = |listed: Option<u32>, name| match spec.special_ids {
            SpecialIds::Files => listed.or_else(|| by_name(name)),
            SpecialIds::Tokenizer => by_name(name),
        };
        let bos = by_files(generation.bos_token_id.or(spec.bos), "bos_token");
        let pad = by_files(generation.pad_token_id.or(spec.pad), "pad_token");
        let mut eos = match spec.special_ids {
            SpecialIds::Files if generation.eos_token_ids.is_empty() => spec.eos.clone(),
            SpecialIds::Files => generation.eos_token_ids.clone(),
            SpecialIds::Tokenizer => Vec::new(),
        };
        eos.extend(spec.stops.iter().filter_map(|text| vocabulary.get(*text).copied()).filter(|&id| id < vocab));
        eos.extend(["eos_token", "eot_token"].into_iter().filter_map(by_name));
        // A begin token starts a new text, so it ends the current one.
        eos.extend(bos);
        eos.sort_unstable();
        eos.dedup();
        if let Some(&id) = eos.iter().chain(&bos).chain(&pad).find(|&&id| id >= vocab) {
            return Err(generation.no_such_token(source, (id, vocab)));
        }
        let pieces = Arc::new(pieces(&pipeline, &vocabulary, vocab));
        let prefix = guarded(|| prefix(&pipeline, bos, named.flag("add_bos_token"))).map_err(problem)?;
        Ok(Self {
            pipeline,
            file,
            pieces,
            prefix,
            bos,
            pad,
            eos,
            #[cfg(feature = "structured")]
            vocabulary: OnceLock::new(),
        })
    }

    /// Encodes text. Special tokens spelled in it become those tokens; [`Self::encode_plain`] treats them as text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer fails, if the text has a token without a row in the embedding, or if [`Specials::Bos`] is requested and there is
    /// no begin token.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        self.encode_with(text, specials, true, &Shield::default())
    }

    /// Encodes text and treats special tokens spelled in it as plain text: for user input, which could otherwise forge messages of a conversation.
    ///
    /// # Errors
    /// See [`Self::encode`].
    pub fn encode_plain(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        self.encode_with(text, specials, false, &Shield::default())
    }

    /// Encodes text in which stand-ins replace characters of special tokens.
    pub(crate) fn encode_with(
        &self,
        text: &str,
        specials: Specials,
        special: bool,
        shield: &Shield,
    ) -> Result<Vec<u32>> {
        let problem = |problem: String| Error::Tokenizer { file: self.file.clone(), problem };
        let continues = specials == Specials::Continue;
        let ids = guarded(|| self.pipeline.encode(text, (special, continues), shield)).map_err(problem)?;
        let ids = match specials {
            Specials::None | Specials::Continue => ids,
            Specials::Prompt => after(&self.prefix, ids),
            Specials::Bos => {
                let bos = self.bos.ok_or_else(|| problem("names no begin token; encode without it".to_owned()))?;
                after(&[bos], ids)
            }
            Specials::PostProcessor => guarded(|| self.pipeline.process(&ids)).map_err(problem)?,
        };
        let vocab = self.pieces.len();
        match ids.iter().find(|&&id| id as usize >= vocab) {
            None => Ok(ids),
            Some(&id) => {
                let token = self.token_text(id).unwrap_or_default();
                Err(problem(format!(
                    "the text has the token {token:?} with id {id}, but the model has rows for ids 0 to {} only; \
                     leave it out of the text, or use the checkpoint that the tokenizer was extended for",
                    vocab - 1
                )))
            }
        }
    }

    /// Rejects a text that cannot fit a context of `context` positions however it is split into tokens, because encoding a huge text takes long. `most` is the
    /// model's longest context, for the message. Texts up to 1 MiB are not checked.
    ///
    /// # Errors
    /// [`Error::TextTooLong`] if the text cannot fit.
    pub fn check_fits(&self, text: &str, context: u32, most: u32) -> Result<()> {
        if text.len() <= SMALL {
            return Ok(());
        }
        let longest = self.pieces.iter().map(|token| token.bytes.len()).max().unwrap_or(0).max(1);
        let least = self.pipeline.kept_bytes(text).div_ceil(longest);
        if least > context as usize { Err(Error::TextTooLong { least, context, most }) } else { Ok(()) }
    }

    /// Error for a text that is not empty but has no tokens.
    pub(crate) fn drops_all(&self) -> Error {
        let problem = "it has no token for any character of the text".to_owned();
        Error::Tokenizer { file: self.file.clone(), problem }
    }

    /// Decodes token ids; invalid UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = self.stream(skip_special);
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        text.push_str(&stream.flush());
        self.pipeline.decoder.strip(&text).to_owned()
    }

    /// Creates a decoder for a stream of ids that continues other text: a blank before the first one is kept.
    #[must_use]
    pub fn stream(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder { pieces: Arc::clone(&self.pieces), skip_special, open: Vec::new() }
    }

    /// The begin token.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Tokens that end a text: all end tokens that the files name, and the begin token.
    #[must_use]
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// A token as the vocabulary spells it: special tokens as written, others in the byte-level alphabet.
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.pipeline.token(id)
    }

    /// Bytes of a token, which need not be whole characters. Special tokens have their spelling, ids without a token no bytes.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], |token| &token.bytes)
    }

    /// Ids of the tokens whose text contains another text, special ones included, in ascending order.
    #[must_use]
    pub fn holding(&self, text: &str) -> Vec<u32> {
        let holds = |token: &Token| token.bytes.windows(text.len().max(1)).any(|part| part == text.as_bytes());
        (0..).zip(self.pieces.iter()).filter(|(_, token)| holds(token)).map(|(id, _)| id).collect()
    }

    /// Whether tokens can spell a text, possibly with more text before and after it. Special tokens must be used whole, others may be used in part.
    #[must_use]
    pub fn can_say(&self, text: &str) -> bool {
        let text = text.as_bytes();
        // Lengths of the text's prefixes that tokens can spell.
        let mut reached = vec![false; text.len() + 1];
        let known = || self.pieces.iter().filter(|token| !token.bytes.is_empty());
        for token in known() {
            let bytes = &token.bytes[..];
            if !token.special && bytes.windows(text.len().max(1)).any(|part| part == text) {
                return true;
            }
            let ends = (1..=bytes.len().min(text.len())).filter(|&length| length == bytes.len() || !token.special);
            ends.filter(|&length| bytes.ends_with(&text[..length])).for_each(|length| reached[length] = true);
        }
        for place in 1..text.len() {
            let rest = &text[place..];
            if !reached[place] {
                continue;
            }
            for token in known() {
                if rest.starts_with(&token.bytes) {
                    reached[place + token.bytes.len()] = true;
                } else if !token.special && token.bytes.starts_with(rest) {
                    return true;
                }
            }
        }
        reached[text.len()]
    }

    /// Whether a token is special: a mark of the format, not text.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.get(id as usize).is_some_and(|token| token.special)
    }

    /// Tokens before a prompt: see [`Specials::Prompt`].
    #[must_use]
    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// Texts of the special tokens, longest first.
    pub(crate) fn special(&self) -> Vec<String> {
        let mut all: Vec<String> = self.pipeline.special().map(str::to_owned).collect();
        all.sort_by_key(|text| std::cmp::Reverse(text.len()));
        all
    }

    /// Vocabulary in the form that grammars are matched with.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the vocabulary is too large for grammars.
    #[cfg(feature = "structured")]
    pub(crate) fn vocabulary(&self) -> Result<Arc<Vocabulary>> {
        if let Some(vocabulary) = self.vocabulary.get() {
            return Ok(Arc::clone(vocabulary));
        }
        let tokens = self.pieces.iter().map(|token| (&token.bytes[..], token.special));
        let made = guarded(|| Vocabulary::new(tokens));
        let made = made.map_err(|problem| Error::Tokenizer { file: self.file.clone(), problem })?;
        // Another thread may have built it meanwhile.
        Ok(Arc::clone(self.vocabulary.get_or_init(|| made)))
    }

    /// The padding token.
    #[must_use]
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }
}

/// Calls third-party code and turns a panic, which an unexpected file can cause, into an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let failed = |_| Err("it uses an unsupported feature: the tokenizers crate panicked".to_owned());
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(failed)
}

/// Prepends a prefix to ids that do not begin with it.
fn after(prefix: &[u32], ids: Vec<u32>) -> Vec<u32> {
    if ids.starts_with(prefix) { ids } else { [prefix, &ids].concat() }
}

/// Tokens before a text: those of the post-processor, except that `add_bos_token` decides about the begin token.
fn prefix(pipeline: &Pipeline, bos: Option<u32>, add_bos: Option<bool>) -> Result<Vec<u32>, String> {
    // No token has this id, so it marks the place of the text.
    const TEXT: u32 = u32::MAX;
    let processed = pipeline.process(&[TEXT])?;
    let mut prefix: Vec<u32> = processed.into_iter().take_while(|&id| id != TEXT).collect();
    match (add_bos, bos) {
        (Some(false), Some(bos)) => prefix.retain(|&id| id != bos),
        (Some(true), Some(bos)) if !prefix.contains(&bos) => prefix.insert(0, bos),
        _ => {}
    }
    Ok(prefix)
}

/// Bytes of every token: as the decoder gives them, or as spelled for added tokens.
fn pieces(pipeline: &Pipeline, vocabulary: &HashMap<String, u32>, vocab: u32) -> Vec<Token> {
    let mut pieces = vec![Token::default(); vocab as usize];
    for (text, &id) in vocabulary.iter().filter(|(_, id)| **id < vocab) {
        let known = pipeline.added_token(id);
        let bytes = if known.is_some() { text.clone().into_bytes() } else { pipeline.decoder.bytes_of(text) };
        pieces[id as usize] = Token { bytes, special: known.is_some_and(|token| token.special) };
    }
    pieces
}

/// GPT-2's byte-level alphabet: printable characters represent themselves, other bytes are characters from U+0100 on.
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
