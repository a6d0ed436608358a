//! A tokenizer's tokens as the tree of their bytes that grammars are matched along.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

/// Bytes of the longest token that the tree can hold.
const LONGEST: usize = 1000;

/// Special tokens begin with this byte in the tree. UTF-8 never has it, so text does not lead to them.
const SPECIAL: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// States of a grammar's lexer, at most: about 2 kB each, for each generation. A fifth of llguidance's limit, which is meant for one user.
const MOST_STATES: usize = 50_000;

/// The tokens of one tokenizer, shared by all grammars that are compiled for it.
pub(crate) struct Vocabulary {
    /// Compiles grammars.
    pub(super) factory: ParserFactory,
    /// Tokens, padding included. One more stands for the end of the text, since which tokens end it is for each generation to say.
    pub(super) vocab: u32,
}

impl Vocabulary {
    /// Of the bytes of every token, and whether it is special. A token without bytes is never allowed, nor is one that UTF-8 text cannot hold.
    pub(crate) fn new<'a>(tokens: impl ExactSizeIterator<Item = (&'a [u8], bool)>) -> Result<Arc<Self>, String> {
        let vocab = tokens.len() as u32;
        let mut words: Vec<Vec<u8>> = tokens.map(|(bytes, special)| word(bytes, special)).collect();
        words.push([&[SPECIAL], &b"the end of the text"[..]].concat());
        let trie = TokTrie::from(&TokRxInfo::new(vocab + 1, vocab), &words);
        // How the tokenizer would cut a text does not matter: any tokens that spell it are allowed.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new(
            &environment,
            InferenceCapabilities::default(),
            &llguidance::earley::SlicedBiasComputer::general_slices(),
        )
        .map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() =
            ParserLimits { max_lexer_states: MOST_STATES, verbose_errors: false, ..ParserLimits::default() };
        Ok(Arc::new(Self { factory, vocab }))
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").field("vocab", &self.vocab).finish_non_exhaustive()
    }
}

/// A token as the tree has it.
fn word(bytes: &[u8], special: bool) -> Vec<u8> {
    match special {
        _ if bytes.is_empty() || bytes.len() > LONGEST => Vec::new(),
        true => [&[SPECIAL], bytes].concat(),
        false if bytes.contains(&SPECIAL) => Vec::new(),
        false => bytes.to_vec(),
    }
}
