//! Tokens in a build without the feature `tokenizer`: only the special ids of the configuration, and no text.

#[path = "specials.rs"]
mod specials;

pub use self::specials::Specials;
use crate::arch::{Spec, SpecialIds};
use crate::error::{Error, Result};
use crate::generation_config::GenerationConfig;
use crate::source::Source;

/// Special ids of a checkpoint. This build has no tokenizer: prompts are token ids, and pieces have no text.
#[derive(Debug)]
pub struct Tokenizer {
    bos: Option<u32>,
    pad: Option<u32>,
    eos: Vec<u32>,
}

/// Streaming decoder, which returns no text in this build.
#[derive(Clone, Debug)]
pub struct StreamDecoder(());

impl StreamDecoder {
    /// Returns no text.
    pub fn push(&mut self, _: u32) -> String {
        String::new()
    }

    /// Returns no text.
    pub fn flush(&mut self) -> String {
        String::new()
    }
}

impl Tokenizer {
    /// Reads the special ids from `generation_config.json`, else `config.json`. If only a tokenizer names a model's special ids, this build has none; set
    /// [`GenerateOptions::end_tokens`](crate::GenerateOptions::end_tokens).
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a special id is not a token of the model.
    pub fn open(source: &Source, spec: &Spec, generation: &GenerationConfig) -> Result<Self> {
        let listed = |id: Option<u32>| id.filter(|_| matches!(spec.special_ids, SpecialIds::Files));
        let bos = listed(generation.bos_token_id.or(spec.bos));
        let pad = listed(generation.pad_token_id.or(spec.pad));
        let named = if generation.eos_token_ids.is_empty() { &spec.eos } else { &generation.eos_token_ids };
        let mut eos: Vec<u32> = named.iter().copied().filter_map(|id| listed(Some(id))).chain(bos).collect();
        eos.sort_unstable();
        eos.dedup();
        let vocab = spec.padded_vocab;
        if let Some(&id) = eos.iter().chain(&bos).chain(&pad).find(|&&id| id >= vocab) {
            return Err(generation.no_such_token(source, (id, vocab)));
        }
        Ok(Self { bos, pad, eos })
    }

    /// Fails: this build cannot encode text.
    ///
    /// # Errors
    /// [`Error::Feature`] always.
    pub fn encode(&self, _: &str, _: Specials) -> Result<Vec<u32>> {
        Err(self.drops_all())
    }

    /// Fails: this build cannot encode text.
    ///
    /// # Errors
    /// [`Error::Feature`] always.
    pub fn encode_plain(&self, _: &str, _: Specials) -> Result<Vec<u32>> {
        Err(self.drops_all())
    }

    #[expect(clippy::unused_self, reason = "the interface of the tokenizer")]
    pub(crate) fn check_fits(&self, _: &str, _: u32, _: u32) -> Result<()> {
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "the interface of the tokenizer")]
    pub(crate) fn drops_all(&self) -> Error {
        Error::Feature { what: "text", feature: "tokenizer" }
    }

    #[expect(clippy::unused_self, reason = "the interface of the tokenizer")]
    pub(crate) fn stream(&self, _: bool) -> StreamDecoder {
        StreamDecoder(())
    }

    #[expect(clippy::unused_self, reason = "the interface of the tokenizer")]
    pub(crate) fn token_text(&self, _: u32) -> Option<String> {
        None
    }

    #[expect(clippy::unused_self, reason = "the interface of the tokenizer")]
    pub(crate) fn holding(&self, _: &str) -> Vec<u32> {
        Vec::new()
    }

    #[expect(clippy::unused_self, reason = "the interface of the tokenizer")]
    pub(crate) fn is_special(&self, _: u32) -> bool {
        false
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

    /// The padding token.
    #[must_use]
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }
}
