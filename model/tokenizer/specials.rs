//! Selection of the special tokens around an encoded text.

/// Special tokens around an encoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Specials {
    /// No special tokens: for text that a chat template has rendered.
    None,
    /// No special tokens and no other prefix, such as SentencePiece's blank: for text that continues other text, and for parts of texts.
    Continue,
    /// Tokens that the tokenizer puts before a text, unless the text begins with them: for a prompt to be continued. The tokenizer's post-processor determines
    /// them, or `add_bos_token` in `tokenizer_config.json`; for many models it is the begin token, for many there are none.
    Prompt,
    /// The begin token, whether or not the tokenizer adds it, unless the text begins with it.
    Bos,
    /// All tokens that the tokenizer's post-processor adds.
    PostProcessor,
}
