//! Tokens of a tokenizer as a byte trie, along which grammars are matched.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

/// Bytes of the longest token that the trie can hold.
const LONGEST: usize = 1000;

/// First byte of special tokens in the trie. It does not occur in UTF-8, so text never leads to them.
const SPECIAL: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// Maximum states of a grammar's lexer: about 2 kB each, for each generation. This is a fifth of llguidance's limit, which is meant for a single user.
const MOST_STATES: usize = 50_000;

/// Tokens of one tokenizer, shared by all grammars compiled for it.
pub(crate) struct Vocabulary {
    /// Compiler for grammars.
    pub(super) factory: ParserFactory,
    /// Number of tokens, including padding. One more token marks the end of the text, since end tokens differ between generations.
    pub(super) vocab: u32,
}

impl Vocabulary {
    /// Creates a vocabulary from every token's bytes and whether it is special. Tokens without bytes, and tokens that UTF-8 text cannot contain, are never
    /// allowed.
    pub(crate) fn new<'a>(tokens: impl ExactSizeIterator<Item = (&'a [u8], bool)>) -> Result<Arc<Self>, String> {
        let vocab = tokens.len() as u32;
        let mut words: Vec<Vec<u8>> = tokens.map(|(bytes, special)| word(bytes, special)).collect();
        words.push([&[SPECIAL], &b"the end of the text"[..]].concat());
        let trie = TokTrie::from(&TokRxInfo::new(vocab + 1, vocab), &words);
        // The tokenizer's own way to split a text does not matter: any tokens that spell it are allowed.
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

/// Bytes of a token in the trie.
fn word(bytes: &[u8], special: bool) -> Vec<u8> {
    match special {
        _ if bytes.is_empty() || bytes.len() > LONGEST => Vec::new(),
        true => [&[SPECIAL], bytes].concat(),
        false if bytes.contains(&SPECIAL) => Vec::new(),
        false => bytes.to_vec(),
    }
}
