//! From tokens to text, and the end of it.

use crate::error::Error;
use crate::generate::StopReason;
use crate::model::Model;
use crate::options::GenerateOptions;
use crate::stop::StopStrings;
use crate::tokenizer::StreamDecoder;

/// The text of one generation.
pub(crate) struct Speech {
    decoder: StreamDecoder,
    stop: StopStrings,
    end_tokens: Vec<u32>,
}

impl Speech {
    pub(crate) fn new(model: &Model, options: &GenerateOptions) -> Result<Self, Error> {
        let end_tokens = options.end_tokens.clone().unwrap_or_else(|| model.tokenizer().eos().to_vec());
        Ok(Self { decoder: model.tokenizer().stream(true), stop: StopStrings::new(options.stop.clone())?, end_tokens })
    }

    /// The text that is complete with a token, and whether it is the last one.
    pub(crate) fn say(&mut self, token: u32) -> (String, Option<StopReason>) {
        if self.end_tokens.contains(&token) {
            return (self.flush(), Some(StopReason::EndToken(token)));
        }
        let fresh = self.decoder.push(token);
        let (text, stopped) = self.stop.push(&fresh);
        (text, stopped.then_some(StopReason::StopString))
    }

    /// Text that was held back.
    pub(crate) fn flush(&mut self) -> String {
        let rest = self.decoder.flush();
        let (mut text, _) = self.stop.push(&rest);
        text.push_str(&self.stop.flush());
        text
    }
}
