//! Decoding of tokens to text, and detection of its end.

use std::collections::HashMap;

use crate::constraint::Matching;
use crate::error::Error;
use crate::generate::StopReason;
use crate::model::Model;
use crate::options::GenerateOptions;
use crate::stop::StopStrings;
use crate::tokenizer::{Specials, StreamDecoder};

/// Encodes a text prompt.
pub(crate) fn encode_prompt(
    model: &Model,
    text: &str,
    (specials, context): (Specials, u32),
    options: &GenerateOptions,
) -> Result<Vec<u32>, Error> {
    let tokenizer = model.tokenizer();
    tokenizer.check_fits(text, context, model.spec().context)?;
    let tokens = match options.parse_special {
        true => tokenizer.encode(text, specials)?,
        false => tokenizer.encode_plain(text, specials)?,
    };
    if tokens.is_empty() { Err(tokenizer.drops_all()) } else { Ok(tokens) }
}

/// Text of one generation.
pub(crate) struct TextOutput {
    decoder: StreamDecoder,
    stop: StopStrings,
    end_tokens: Vec<u32>,
    /// Spelling of special tokens, which are not part of the text; empty if there are no stop strings.
    special: HashMap<u32, String>,
}

impl TextOutput {
    pub(crate) fn new(model: &Model, options: &GenerateOptions) -> Result<Self, Error> {
        let end_tokens = options.end_tokens.clone().unwrap_or_else(|| model.tokenizer().eos().to_vec());
        let tokenizer = model.tokenizer();
        // Only special tokens are spelled out, and there are few of them.
        let spelled = |id: u32| Some((id, tokenizer.is_special(id).then(|| tokenizer.token_text(id))??));
        let special = match options.stop.is_empty() {
            true => HashMap::new(),
            false => (0..model.spec().padded_vocab).filter_map(spelled).collect(),
        };
        if cfg!(not(feature = "tokenizer")) && !options.stop.is_empty() {
            return Err(Error::Feature { what: "a stop string", feature: "tokenizer" });
        }
        let stop = StopStrings::new(options.stop.clone())?;
        Ok(Self { decoder: tokenizer.stream(true), stop, end_tokens, special })
    }

    /// Tokens that end the text.
    pub(crate) fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// Text that is complete with this token, and the stop reason if the text has ended.
    fn say(&mut self, token: u32) -> (String, Option<StopReason>) {
        if self.end_tokens.contains(&token) {
            return (self.flush(), Some(StopReason::EndToken(token)));
        }
        let Some(special) = &self.special.get(&token) else {
            let (text, stopped) = self.stop.push(&self.decoder.push(token));
            return (text, stopped.then_some(StopReason::StopString));
        };
        // An incomplete character before a special token stays incomplete.
        let (mut text, mut stopped) = self.stop.push(&self.decoder.flush());
        if !stopped {
            let (more, now) = self.stop.push_hidden(special);
            text.push_str(&more);
            stopped = now;
        }
        (text, stopped.then_some(StopReason::StopString))
    }

    /// Text that is complete with this token, and the stop reason if the text has ended or is complete by its constraint.
    ///
    /// # Errors
    /// [`Error::Unconstrainable`] if the constraint cannot go on.
    pub(crate) fn say_matching(
        &mut self,
        token: u32,
        matching: Option<&mut Matching>,
    ) -> Result<(String, Option<StopReason>), Error> {
        let (mut text, ended) = self.say(token);
        let (None, Some(matching)) = (ended, matching) else { return Ok((text, ended)) };
        if !matching.take(token)? {
            return Ok((text, None));
        }
        text.push_str(&self.flush());
        Ok((text, Some(StopReason::Complete)))
    }

    /// Returns text that was held back.
    pub(crate) fn flush(&mut self) -> String {
        let rest = self.decoder.flush();
        let (mut text, _) = self.stop.push(&rest);
        text.push_str(&self.stop.flush());
        text
    }
}
