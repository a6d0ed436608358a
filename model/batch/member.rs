//! A sequence of a batch.

use ruminate_shaders::NONE;
use ruminate_shaders::attention::cache::{KvShare, Lookup};
use ruminate_shaders::batch::Came;
use ruminate_shaders::exit::{Continuous, Terms};
use ruminate_shaders::recur::NoiseRule;

use super::table::Place;
use super::{SequenceId, lost};
use crate::error::Error;
use crate::exit::{Exit, PrefillExit};
use crate::generate::{Piece, Prompt, StopReason};
use crate::model::Model;
use crate::options::{GenerateOptions, SessionOptions, StepsOf};
use crate::policy::Chosen;
use crate::rules::{Rules, most_tokens};
use crate::sampling::{Choosing, MAX_LOGPROBS};
use crate::session::{check_steps, check_tokens};
use crate::speech::{Speech, encode_prompt};
use crate::tokenizer::Specials;

/// What is known of a sequence.
pub(super) struct Member {
    pub(super) id: SequenceId,
    /// With its own seed.
    pub(super) session: SessionOptions,
    pub(super) prompt: Vec<u32>,
    /// Tokens of the prompt that have had a row.
    pub(super) fed: usize,
    /// Steps of its rows: those of the prompt, then those of each token.
    pub(super) steps: u32,
    steps_of: Option<StepsOf>,
    pub(super) exit: Option<Exit>,
    pub(super) continuous: Option<Continuous>,
    pub(super) noise: Option<NoiseRule>,
    pub(super) choosing: Choosing,
    /// Tokens to generate.
    pub(super) wanted: u32,
    /// Those that have come, and those that a submitted round brings or may bring.
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
        let spec = model.spec();
        options.exit.map_or(Ok(()), |exit| exit.validate(spec))?;
        options.check_start(spec)?;
        let steps = options.steps.unwrap_or(spec.steps.default);
        check_steps(steps)?;
        let prompt = match prompt {
            Prompt::Tokens(tokens) => tokens.to_vec(),
            Prompt::Text("") => return Err(Error::EmptyPrompt),
            Prompt::Text(text) => {
                let specials = if options.add_bos { Specials::Prompt } else { Specials::None };
                encode_prompt(model, text, (specials, context), options)?
            }
        };
        check_tokens(spec, &prompt, 0, context)?;
        let vocab = spec.padded_vocab;
        let asked = most_tokens(options, prompt.len() as u32)?.unwrap_or(u32::MAX);
        // The last token need not be computed itself, so it takes no position.
        let room = context - prompt.len() as u32 + 1;
        Ok(Self {
            id,
            session,
            prompt,
            fed: 0,
            steps,
            steps_of: options.steps_of.clone(),
            exit: options.exit,
            continuous: options.continuous,
            noise: options.noise.map(|noise| noise.rule(spec)).transpose()?,
            choosing: Choosing::new(options, model.tokenizer(), vocab)?,
            wanted: asked.min(room),
            begun: 0,
            come: 0,
            ranked: MAX_LOGPROBS.min(vocab),
            full: room < asked,
            speech: Speech::new(model, options)?,
        })
    }

    /// Takes note that the next token is begun; whether its row has another depth than the one before.
    pub(super) fn begin_token(&mut self) -> Result<bool, Error> {
        let Some(of) = &self.steps_of else { return Ok(false) };
        let steps = of.steps(self.begun);
        check_steps(steps)?;
        Ok(std::mem::replace(&mut self.steps, steps) != steps)
    }

    /// When its rows leave, and what the next ones go on from.
    pub(super) fn terms(&self) -> Terms {
        let first = |exit: &Exit| if exit.prefill == PrefillExit::Never { self.prompt.len() as u32 } else { 0 };
        let terms = self.exit.map_or(Terms::fixed(self.steps), |exit| exit.terms(first(&exit), self.steps));
        Terms { continuous: self.continuous.map_or(NONE, |way| way as u32), ..terms }
    }

    /// Whether rows of its prompt follow each other. Where steps share keys, a row would see those of others at steps that depend on the company; and so it
    /// would where it sees the last steps of all.
    pub(super) fn one_by_one(&self) -> bool {
        self.session.share != KvShare::None || self.exit.is_some() && self.session.lookup == Lookup::AlwaysLast
    }

    /// What the host knows of its row at a position.
    pub(super) fn place(&self, slot: usize, position: u32) -> Place {
        let prompt = self.prompt.len() as u32;
        let open = self.exit.is_some() && position >= self.terms().first;
        // As often as a row ahead of what is known is read out.
        let left = if open { self.steps.div_ceil(8) } else { self.steps };
        Place { slot, left, open, decodes: position + 1 >= prompt }
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
    let together = options.exit.is_some_and(|exit| match exit.prefill {
        PrefillExit::Each => exit.criterion.reads_out(),
        PrefillExit::Together => true,
        PrefillExit::Never => false,
        PrefillExit::Posthoc => true,
    });
    let why = "rows of a prompt that leave together would have to share all passes; each by itself (judged by the state) or never they may";
    if let Some(one) = Rules::named(options) {
        let why = "which tokens may be chosen depends on those before, of which the host hears a round too late";
        return Err(Error::Together { one, other: "batch", why });
    }
    let posthoc = options.exit.is_some_and(|exit| exit.posthoc || exit.prefill == PrefillExit::Posthoc);
    let refused = [
        (posthoc, "exit posthoc", "its rows are at steps of their own, and none of them goes back to an earlier state"),
        (together, "exit", why),
        (options.speculate.is_some(), "speculate", "places of a batch are for other sequences"),
        (options.diffusion.is_some(), "diffusion", "places of a batch are for other sequences"),
        (options.pipeline.is_some(), "pipeline", "places of a batch are for other sequences"),
    ];
    if options.exit.is_some() && options.steps_of.is_some() {
        let why = "in a batch: which of its tokens a row that may leave early is at comes to the host too late to say how deep it is";
        return Err(Error::Together { one: "steps_of", other: "exit", why });
    }
    match refused.into_iter().find(|(asked, ..)| *asked) {
        Some((_, other, why)) => Err(Error::Together { one: "batch", other, why }),
        None => Ok(()),
    }
}
