//! Which special tokens an encoded text gets.

/// Which special tokens are put round an encoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Specials {
    /// None: for text that a chat template has rendered.
    None,
    /// None, and nothing else that the tokenizer puts before a text, such as SentencePiece's blank: for text that continues other text, and for parts of texts.
    Continue,
    /// What the tokenizer puts before a text, unless the text begins with it already: for a prompt to be continued. Its post-processor
    /// says so, or `add_bos_token` in `tokenizer_config.json`; for many models it is the begin token, for many nothing.
    Prompt,
    /// The begin token, whether or not the tokenizer puts one, unless the text begins with it already.
    Bos,
    /// Whatever the tokenizer's post-processor adds.
    PostProcessor,
}
