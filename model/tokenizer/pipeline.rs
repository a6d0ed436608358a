//! Encoding pipeline: added tokens, normalizers, splitting, the model, the post-processor.
//!
//! The tokenizers crate provides the models and everything that needs no bounds. This module connects them, so that a pattern that gives up is an error, and no
//! file exhausts memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{
    AddedToken, AddedVocabulary, Encoding, Model, OffsetReferential, OffsetType, PostProcessor, PreTokenizedString,
    PreTokenizer, SplitDelimiterBehavior,
};

use super::added::{Added, Segment};
use super::byte_alphabet;
use super::decoder::Decoder;
use super::layout::Layout;
use super::normalize::Normalizers;
use super::pattern::{GPT2, Parts, Pattern, Work};
use super::shield::Shield;

/// Maximum bytes of a text; a context holds far fewer.
const MOST_BYTES: usize = 64 << 20;

/// A tokenizer.json, ready to encode.
pub(super) struct Pipeline {
    model: ModelWrapper,
    vocabulary: AddedVocabulary,
    added: Added,
    normalizers: Normalizers,
    steps: Vec<Step>,
    processor: Option<PostProcessorWrapper>,
    alphabet: [char; 256],
    pub(super) decoder: Decoder,
}

/// A step of the pre-tokenizer.
#[derive(Debug)]
enum Step {
    Split {
        pattern: Pattern,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    /// Prepends a blank to a piece that does not begin with one.
    Blank,
    /// Spells bytes in the byte-level alphabet.
    Bytes,
    /// A step of the crate, for the first piece of a text and for later ones.
    Other(Box<[PreTokenizerWrapper; 2]>),
}

/// The field `model` of a file.
#[derive(Deserialize)]
struct ModelOf {
    model: ModelWrapper,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl Pipeline {
    pub(super) fn read(layout: Layout, bytes: &[u8]) -> Result<Self, String> {
        let ModelOf { mut model } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        // Randomness is for training; encoding must be deterministic.
        match &mut model {
            ModelWrapper::BPE(model) => model.dropout = None,
            ModelWrapper::Unigram(model) => model.alpha = None,
            ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) => {}
        }
        let normalizers = Normalizers::read(&layout.normalizer)?;
        let mut steps = Vec::new();
        read_steps(&layout.pre_tokenizer, &mut steps)?;
        let processor = Option::deserialize(layout.post_processor);
        let processor = processor.map_err(|error| format!("`post_processor`: {error}"))?;
        let mut vocabulary = AddedVocabulary::new();
        let failed = |error: tokenizers::Error| format!("`added_tokens`: {error}");
        vocabulary.add_tokens(layout.added_tokens, &model, None::<&NormalizerWrapper>).map_err(failed)?;
        let tokens = vocabulary.get_added_tokens_decoder().iter().map(|(id, token)| (*id, token.clone())).collect();
        let added = Added::new(tokens, &normalizers)?;
        let mut alphabet = ['\0'; 256];
        byte_alphabet().for_each(|(c, byte)| alphabet[usize::from(byte)] = c);
        let decoder = Decoder::read(&layout.decoder)?;
        Ok(Self { model, vocabulary, added, normalizers, steps, processor, alphabet, decoder })
    }

    /// All tokens and their ids.
    pub(super) fn vocabulary(&self) -> HashMap<String, u32> {
        let mut all = self.model.get_vocab();
        all.extend(self.vocabulary.get_vocab().iter().map(|(text, id)| (text.clone(), *id)));
        all
    }

    pub(super) fn added_token(&self, id: u32) -> Option<&AddedToken> {
        self.vocabulary.get_added_tokens_decoder().get(&id)
    }

    pub(super) fn token(&self, id: u32) -> Option<String> {
        self.added_token(id).map(|token| token.content.clone()).or_else(|| self.model.id_to_token(id))
    }

    /// Texts of the special tokens.
    pub(super) fn special(&self) -> impl Iterator<Item = &str> {
        self.added.special()
    }

    /// Whether a text is normalized before it is split.
    pub(super) fn normalizes(&self) -> bool {
        !self.normalizers.is_empty()
    }

    /// Encodes a text. Special tokens in it become tokens if `special` is set and they are not shielded. Nothing is put before a text that continues another.
    pub(super) fn encode(
        &self,
        text: &str,
        (special, continues): (bool, bool),
        shield: &Shield,
    ) -> Result<Vec<u32>, String> {
        if text.len() > MOST_BYTES {
            return Err(format!(
                "a text of {} bytes is too long: at most {MOST_BYTES} are encoded at once",
                text.len()
            ));
        }
        let mut out = Out { ids: Vec::new(), work: Work::for_text(text), first: !continues };
        let mut continues = continues;
        for segment in self.added.literal.cut(text, special) {
            let text = match segment {
                Segment::Token(id) => {
                    out.token(id);
                    continues = false;
                    continue;
                }
                Segment::Text(range) => shield.restore(&text[range]),
            };
            let special = special && matches!(text, Cow::Borrowed(_));
            let text = match self.normalizes() {
                true => Cow::Owned(self.normalizers.apply(&text, continues, &mut out.work)?),
                false => text,
            };
            continues = false;
            for segment in self.added.normalized.cut(&text, special) {
                match segment {
                    Segment::Token(id) => out.token(id),
                    Segment::Text(range) => self.walk(&self.steps, &text[range], &mut out)?,
                }
                out.first = false;
            }
        }
        Ok(out.ids)
    }

    /// Lower bound of the bytes that become tokens, however the text is split: all visible ASCII if no step is known to drop characters, else 0.
    pub(super) fn kept_bytes(&self, text: &str) -> usize {
        let keeps = |step: &Step| match step {
            Step::Split { pattern, behavior, invert } => {
                *behavior != SplitDelimiterBehavior::Removed || (*invert && pattern.is_published())
            }
            Step::Blank | Step::Bytes => true,
            Step::Other(_) => false,
        };
        let spelled = || self.alphabet.iter().all(|c| self.model.token_to_id(c.encode_utf8(&mut [0; 4])).is_some());
        let known = matches!(self.model, ModelWrapper::BPE(_))
            && !self.normalizes()
            && self.steps.iter().any(|step| matches!(step, Step::Bytes))
            && self.steps.iter().all(keeps)
            && spelled();
        // White space may become part of an added token.
        let blanks = !self.added.takes_blanks();
        let kept = |byte: &u8| byte.is_ascii_graphic() || blanks && matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        if known { text.bytes().filter(kept).count() } else { 0 }
    }

    /// Applies the post-processor to ids.
    pub(super) fn process(&self, ids: &[u32]) -> Result<Vec<u32>, String> {
        let Some(processor) = &self.processor else { return Ok(ids.to_vec()) };
        let encoding: Encoding = ids.iter().map(|&id| (id, String::new(), (0, 0), None, 0)).collect();
        let processed = processor.process(encoding, None, true).map_err(|error| error.to_string())?;
        Ok(processed.get_ids().to_vec())
    }

    /// Takes a piece through the remaining steps and the model.
    fn walk(&self, steps: &[Step], text: &str, out: &mut Out) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let Some((step, rest)) = steps.split_first() else {
            let tokens = self.model.tokenize(text).map_err(|error| error.to_string())?;
            out.ids.extend(tokens.iter().map(|token| token.id));
            return Ok(());
        };
        match step {
            Step::Split { pattern, behavior, invert } => {
                let mut parts = pattern.parts(text, &mut out.work)?;
                parts.iter_mut().for_each(|(_, found)| *found ^= invert);
                for part in merged(parts, *behavior) {
                    self.walk(rest, &text[part], out)?;
                    out.first = false;
                }
                Ok(())
            }
            Step::Blank if text.starts_with(' ') => self.walk(rest, text, out),
            Step::Blank => self.walk(rest, &format!(" {text}"), out),
            Step::Bytes => {
                let spelled: String = text.bytes().map(|byte| self.alphabet[usize::from(byte)]).collect();
                self.walk(rest, &spelled, out)
            }
            Step::Other(each) => {
                let mut pieces = PreTokenizedString::from(text);
                let step = &each[usize::from(!out.first)];
                step.pre_tokenize(&mut pieces).map_err(|error| error.to_string())?;
                for (piece, ..) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
                    self.walk(rest, piece, out)?;
                    out.first = false;
                }
                Ok(())
            }
        }
    }
}

/// Output of an encoding in progress.
struct Out {
    ids: Vec<u32>,
    work: Work,
    /// Whether the current piece is the first of the text.
    first: bool,
}

impl Out {
    fn token(&mut self, id: u32) {
        self.ids.push(id);
        self.first = false;
    }
}

/// Reads the field `pre_tokenizer`.
fn read_steps(value: &Value, steps: &mut Vec<Step>) -> Result<(), String> {
    let wrong = |error: serde_json::Error| format!("`pre_tokenizer`: {error}");
    if value.is_null() {
        return Ok(());
    }
    if let (Some("Sequence"), Some(inner)) = (value["type"].as_str(), value["pretokenizers"].as_array()) {
        return inner.iter().try_for_each(|inner| read_steps(inner, steps));
    }
    match PreTokenizerWrapper::deserialize(value).map_err(wrong)? {
        PreTokenizerWrapper::Split(split) => {
            let pattern = Pattern::read(&value["pattern"])?;
            steps.push(Step::Split { pattern, behavior: split.behavior, invert: split.invert });
        }
        PreTokenizerWrapper::ByteLevel(bytes) => {
            if bytes.add_prefix_space {
                steps.push(Step::Blank);
            }
            if bytes.use_regex {
                let behavior = SplitDelimiterBehavior::Isolated;
                steps.push(Step::Split { pattern: Pattern::regex(GPT2)?, behavior, invert: false });
            }
            steps.push(Step::Bytes);
        }
        PreTokenizerWrapper::FixedLength(fixed) if fixed.length == 0 => {
            return Err("`pre_tokenizer`: FixedLength has `length` 0; at least 1 is needed".to_owned());
        }
        PreTokenizerWrapper::Metaspace(first) if first.prepend_scheme == PrependScheme::First => {
            let mut later = first.clone();
            later.prepend_scheme = PrependScheme::Never;
            steps.push(Step::Other(Box::new([first, later].map(PreTokenizerWrapper::Metaspace))));
        }
        other => steps.push(Step::Other(Box::new([other.clone(), other]))),
    }
    Ok(())
}

/// Pieces that a split leaves of the parts of a text.
fn merged(parts: Parts, behavior: SplitDelimiterBehavior) -> Vec<Range<usize>> {
    use SplitDelimiterBehavior as B;
    let mut pieces: Vec<Range<usize>> = Vec::with_capacity(parts.len());
    let mut before = None;
    for (part, found) in parts {
        // Whether this part joins the previous piece.
        let joins = match (behavior, before) {
            (B::Removed, _) if found => continue,
            (B::Removed | B::Isolated, _) => false,
            (B::Contiguous, before) => before.unwrap_or(false) == found,
            (B::MergedWithPrevious, before) => found && before != Some(true),
            (B::MergedWithNext, before) => before == Some(true) && !found,
        };
        before = Some(found);
        match pieces.last_mut().filter(|_| joins) {
            Some(piece) => piece.end = part.end,
            None => pieces.push(part),
        }
    }
    pieces
}
