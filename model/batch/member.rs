//! A sequence of a batch.

use ruminate_shaders::batch::Came;

use super::{SequenceId, lost};
use crate::error::Error;
use crate::generate::{Piece, Prompt, StopReason};
use crate::model::Model;
use crate::options::{GenerateOptions, SessionOptions};
use crate::policy::Chosen;
use crate::sampling::{Choosing, MAX_LOGPROBS};
use crate::session::{check_steps, check_tokens};
use crate::speech::Speech;
use crate::tokenizer::Specials;

/// What is known of a sequence.
pub(super) struct Member {
    pub(super) id: SequenceId,
    /// With its own seed.
    pub(super) session: SessionOptions,
    pub(super) prompt: Vec<u32>,
    /// Tokens of the prompt that have had a row.
    pub(super) fed: usize,
    pub(super) steps: u32,
    pub(super) choosing: Choosing,
    /// Tokens to generate.
    pub(super) wanted: u32,
    /// Those that a submitted round brings.
    pub(super) begun: u32,
    come: u32,
    /// How many tokens are ranked for those who ask.
    ranked: u32,
    full: bool,
    speech: Speech,
}

impl Member {
    pub(super) fn new(
        id: SequenceId,
        model: &Model,
        session: SessionOptions,
        context: u32,
        prompt: Prompt<'_>,
        options: &GenerateOptions,
    ) -> Result<Self, Error> {
        refuse(options)?;
        let config = model.config();
        let steps = options.steps.unwrap_or(config.mean_recurrence);
        check_steps(steps)?;
        let prompt = match prompt {
            Prompt::Tokens(tokens) => tokens.to_vec(),
            Prompt::Text("") => return Err(Error::EmptyPrompt),
            Prompt::Text(text) => {
                let specials = if options.add_bos { Specials::Bos } else { Specials::None };
                model.encode(text, specials, context)?
            }
        };
        check_tokens(config, &prompt, 0, context)?;
        let vocab = config.padded_vocab_size;
        let asked = options.max_tokens.unwrap_or(u32::MAX);
        if asked == 0 {
            return Err(Error::Option { name: "max_tokens", value: "0".to_owned(), allowed: "at least 1" });
        }
        // The last token need not be computed itself, so it takes no position.
        let room = context - prompt.len() as u32 + 1;
        Ok(Self {
            id,
            session,
            prompt,
            fed: 0,
            steps,
            choosing: Choosing::new(options, model.tokenizer(), vocab)?,
            wanted: asked.min(room),
            begun: 0,
            come: 0,
            ranked: MAX_LOGPROBS.min(vocab),
            full: room < asked,
            speech: Speech::new(model, options)?,
        })
    }

    /// What comes of a token, which place `place` of the round brought.
    pub(super) fn say(
        &mut self,
        came: Came,
        ranks: &[Vec<u8>],
        place: usize,
    ) -> Result<(Piece, Option<StopReason>), Error> {
        let ranked = self.choosing.logprobs.map(|_| self.ranked);
        let mut chosen = Chosen::ranked(came.token, came.steps, ranks, place, ranked).ok_or_else(lost)?;
        chosen.top.truncate(self.choosing.logprobs.unwrap_or(0) as usize);
        let Chosen { token, steps, logprob, top } = chosen;
        self.come += 1;
        let (mut text, mut ended) = self.speech.say(token);
        if ended.is_none() && self.come == self.wanted {
            ended = Some(if self.full { StopReason::ContextFull } else { StopReason::MaxTokens });
            text.push_str(&self.speech.flush());
        }
        Ok((Piece { token, text, steps, logprob, top }, ended))
    }
}

/// What a batch does not do.
fn refuse(options: &GenerateOptions) -> Result<(), Error> {
    let apart = "rows of a batch are at different steps, which its checks do not know";
    let state = "rows of a batch begin from fresh states";
    let refused = [
        (options.exit.is_some(), "exit", apart),
        (options.continuous.is_some(), "continuous", state),
        (options.steps_of.is_some(), "steps_of", "a sequence of a batch has one depth; give each its own"),
        (options.noise.is_some(), "noise", "all sequences of a batch would get it"),
        (options.speculate.is_some(), "speculate", "places of a batch are for other sequences"),
        (options.diffusion.is_some(), "diffusion", "places of a batch are for other sequences"),
        (options.pipeline.is_some(), "pipeline", "places of a batch are for other sequences"),
    ];
    match refused.into_iter().find(|(asked, ..)| *asked) {
        Some((_, other, why)) => Err(Error::Together { one: "batch", other, why }),
        None => Ok(()),
    }
}
