//! A sequence of a batch.

use std::time::Duration;

use ruminate_shaders::NONE;
use ruminate_shaders::attention::cache::{KvShare, Lookup};
use ruminate_shaders::batch::RowResult;
use ruminate_shaders::exit::{Continuous, ExitParams};
use ruminate_shaders::recur::NoiseRule;

use super::prefix::{Computed, Shared};
use super::scoring::Scores;
use super::table::Place;
use super::{PromptToken, SequenceId, lost};
use crate::arch::{Spec, Start};
use crate::constraint::Matching;
use crate::decoding::Chosen;
use crate::early_exit::{Exit, PrefillExit};
use crate::error::Error;
use crate::generate::{Piece, Prompt, Statistics, StopReason};
use crate::model::Model;
use crate::options::{GenerateOptions, SessionOptions, StepsOf};
use crate::parallel_decoding::ParallelDecoding;
use crate::rules::{Rules, most_tokens};
use crate::sampling::{Choosing, MAX_LOGPROBS};
use crate::session::{check_steps, check_tokens};
use crate::text_output::{TextOutput, encode_prompt};
use crate::tokenizer::Specials;
use ruminate_engine::clock::Instant;

/// Host state of a sequence.
pub(super) struct Member {
    pub(super) id: SequenceId,
    /// Number of restarts after preemption. Results from before the last restart are ignored.
    pub(super) life: u32,
    /// Session options, with the sequence's own seed.
    pub(super) session: SessionOptions,
    /// The prompt and the generated tokens known to the host.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub(super) prompt: u32,
    /// Options of a sequence that needs its own passes.
    pub(super) alone: Option<Box<GenerateOptions>>,
    /// Shared pages held for it until it is admitted.
    pub(super) begins_with: Option<Shared>,
    /// Running sequence whose prompt it waits for, or has waited for.
    pub(super) leader: Option<SequenceId>,
    /// Number of tokens whose rows have been written, by the host or by the device.
    pub(super) fed: usize,
    /// Steps stored at each position whose row is finished, as far as the host knows; 0 for other positions.
    pub(super) depth: Vec<u32>,
    /// Steps of its rows: first those of the prompt, then those of each generated token.
    pub(super) steps: u32,
    prompt_steps: u32,
    steps_of: Option<StepsOf>,
    pub(super) exit: Option<Exit>,
    pub(super) continuous: Option<Continuous>,
    pub(super) noise: Option<NoiseRule>,
    pub(super) choosing: Choosing,
    /// Progress in the grammar, if there is a constraint.
    matching: Option<Matching>,
    /// Prompt tokens whose probabilities are requested and not all known yet.
    pub(super) scores: Option<Scores>,
    /// Prompt tokens whose probabilities are known.
    pub(super) scored: Vec<PromptToken>,
    /// Number of tokens to generate.
    pub(super) wanted: u32,
    /// Tokens that have been received, plus those that a submitted round brings or may bring.
    pub(super) begun: u32,
    pub(super) come: u32,
    /// Number of tokens ranked by passes with log-probabilities.
    ranked: u32,
    full: bool,
    text_output: TextOutput,
    pub(super) statistics: Statistics,
    added: Instant,
    first: Option<Instant>,
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
        let spec = model.spec();
        options.exit.map_or(Ok(()), |exit| exit.validate(spec))?;
        options.check_start(spec)?;
        let steps = options.steps.unwrap_or(spec.steps.default);
        check_depth(&session, steps)?;
        let prompt = match prompt {
            Prompt::Tokens(tokens) => tokens.to_vec(),
            Prompt::Text("") | Prompt::Continue => return Err(Error::EmptyPrompt),
            Prompt::Text(text) => {
                let specials = if options.add_bos { Specials::Prompt } else { Specials::None };
                encode_prompt(model, text, (specials, context), options)?
            }
        };
        check_tokens(spec, &prompt, 0, context)?;
        let (vocab, count) = (spec.padded_vocab, prompt.len() as u32);
        let limit = most_tokens(options, count)?;
        // Validates the options only; nothing else is needed before the sequence starts.
        ParallelDecoding::of(options, (steps, spec))?;
        let asked = limit.unwrap_or(u32::MAX);
        // The last token need not be computed, so it takes no position.
        let room = context - count + 1;
        let text_output = TextOutput::new(model, options)?;
        let mut choosing = Choosing::new(options, model.tokenizer(), vocab)?;
        choosing.follow(Rules::new(options, text_output.end_tokens(), count, limit, vocab)?, &prompt);
        let matching = options.constraint.as_ref().map(|it| it.start(model.tokenizer(), text_output.end_tokens()));
        let mut matching = matching.transpose()?;
        matching.as_mut().map_or(Ok(()), |matching| choosing.constrain(matching))?;
        Ok(Self {
            id,
            life: 0,
            session,
            tokens: prompt,
            prompt: count,
            alone: None,
            begins_with: None,
            leader: None,
            fed: 0,
            depth: Vec::new(),
            steps,
            prompt_steps: steps,
            steps_of: options.steps_of.clone(),
            exit: options.exit,
            continuous: options.continuous,
            noise: options.noise.map(|noise| noise.rule(spec)).transpose()?,
            choosing,
            matching,
            scores: options.prompt_logprobs.then_some(Scores { from: 1, last: None }),
            scored: Vec::new(),
            wanted: asked.min(room),
            begun: 0,
            come: 0,
            ranked: MAX_LOGPROBS.min(vocab),
            full: room < asked,
            text_output,
            statistics: Statistics { prompt_tokens: count, ..Statistics::default() },
            added: Instant::now(),
            first: None,
        })
    }

    /// Maximum positions that the sequence may take.
    pub(super) fn most_positions(&self) -> u32 {
        self.prompt + self.wanted.saturating_sub(1)
    }

    /// Steps of its deepest row, as far as known.
    pub(super) fn most_steps(&self, planned: u32) -> u32 {
        if self.steps_of.is_some() { self.steps.max(planned) } else { self.steps }
    }

    /// Records that the next token begins. Returns whether its row has another depth than the one before.
    pub(super) fn begin_token(&mut self) -> Result<bool, Error> {
        let Some(of) = &self.steps_of else { return Ok(false) };
        let steps = of.steps(self.begun);
        check_depth(&self.session, steps)?;
        Ok(std::mem::replace(&mut self.steps, steps) != steps)
    }

    /// Exit parameters of its rows, and the state that following rows start from.
    pub(super) fn exit_params(&self) -> ExitParams {
        let first = |exit: &Exit| if exit.prefill == PrefillExit::Never { self.prompt } else { 0 };
        let exit_params =
            self.exit.map_or(ExitParams::fixed(self.steps), |exit| exit.exit_params(first(&exit), self.steps));
        let parks = u32::from(self.waits_for_host());
        ExitParams { continuous: self.continuous.map_or(NONE, |way| way as u32), parks, ..exit_params }
    }

    /// Whether rows of its prompt are computed one after the other. If steps share keys, or if rows exit early and attend to
    /// the last step of others, a row would otherwise see other rows at steps that depend on which rows share its pass.
    pub(super) fn one_by_one(&self) -> bool {
        self.session.share != KvShare::None || self.exit.is_some() && self.session.lookup == Lookup::AlwaysLast
    }

    /// Whether the host must receive a token before the next one may be chosen.
    pub(super) fn waits_for_host(&self) -> bool {
        !self.choosing.rules.is_empty()
    }

    /// Updates the token rules and the constraint for the next token, after the tokens before it are known.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        self.choosing.look(self.come, &self.tokens);
        self.matching.as_mut().map_or(Ok(()), |matching| self.choosing.constrain(matching))
    }

    /// Key of its prompt in the prefix cache, if its pages may be shared.
    pub(super) fn computed(&self, spec: &Spec) -> Option<Computed> {
        // Own passes compute the prompt like shared ones, unless its rows may exit or belong to a wavefront.
        let apart = self.alone.as_ref().is_some_and(|options| options.exit.is_some() || options.diffusion.is_some());
        let alone = self.noise.is_some() || self.one_by_one() || apart;
        let seed = (spec.start != Start::Embedding).then(|| self.session.seed_of_states());
        (!alone).then(|| Computed::new(self.prompt_steps, seed, self.exit.as_ref()))
    }

    /// Whether a generated token is computed as it would be in a prompt. Only then can it be computed again, and shared.
    pub(super) fn repeats(&self) -> bool {
        let exit = self.exit.is_none_or(|exit| !exit.criterion.reads_out());
        self.steps_of.is_none() && self.continuous.is_none() && exit && !self.one_by_one()
    }

    /// Number of positions whose pages may be shared.
    pub(super) fn shareable(&self) -> usize {
        let same = self.repeats() && self.exit.is_none_or(|exit| exit.prefill == PrefillExit::Each);
        let known = self.depth.iter().position(|&steps| steps == 0).unwrap_or(self.depth.len());
        if same { known } else { known.min(self.prompt as usize) }
    }

    /// Restarts the sequence with all its known tokens. Results under way are ignored.
    pub(super) fn begin_again(&mut self) {
        self.life += 1;
        self.fed = 0;
        self.begun = self.come;
        self.depth.clear();
        self.scored.clear();
    }

    /// Table entry for its row at a position.
    pub(super) fn place(&self, slot: usize, position: u32) -> Place {
        let open = self.exit.is_some() && position >= self.exit_params().first;
        // An eighth of the steps, the default interval of pipelined decoding.
        let left = if open { self.steps.div_ceil(8) } else { self.steps };
        let decodes = position as usize + 1 >= self.tokens.len() && self.wanted > 0;
        Place { slot, position, left, open, decodes }
    }

    /// Records that a row is finished.
    pub(super) fn finished(&mut self, position: u32, steps: u32) {
        let end = position as usize + 1;
        self.depth.resize(self.depth.len().max(end), 0);
        self.depth[end - 1] = steps;
    }

    /// Whether the whole prompt is computed and no token is to be generated.
    pub(super) fn is_computed(&self) -> bool {
        self.wanted == 0 && self.depth.len() == self.tokens.len()
    }

    /// Adds the token that row `place` of the round brought.
    pub(super) fn say(
        &mut self,
        result: RowResult,
        ranks: &[Vec<u8>],
        place: usize,
    ) -> Result<(Piece, Option<StopReason>), Error> {
        let ranked = self.choosing.logprobs.map(|_| self.ranked);
        let mut chosen = Chosen::ranked(result.token, result.steps, ranks, place, ranked).ok_or_else(lost)?;
        chosen.top.truncate(self.choosing.logprobs.unwrap_or(0) as usize);
        let Chosen { token, steps, logprob, top } = chosen;
        self.come += 1;
        if self.fed == self.tokens.len() && !self.waits_for_host() {
            // The device has written its row.
            self.fed += 1;
        }
        self.tokens.push(token);
        self.statistics.tokens += 1;
        self.statistics.steps += u64::from(steps);
        let (mut text, mut ended) = self.text_output.say_matching(token, self.matching.as_mut())?;
        if ended.is_none() && self.come == self.wanted {
            ended = Some(if self.full { StopReason::ContextFull } else { StopReason::MaxTokens });
            text.push_str(&self.text_output.flush());
        }
        Ok((Piece { token, text, steps, logprob, top }, ended))
    }

    /// Updates the times when a round with a result of this sequence is done.
    pub(super) fn heard(&mut self, done: Instant) {
        let first = *self.first.get_or_insert(done);
        self.statistics.prompt_time = first.saturating_duration_since(self.added);
        self.statistics.decode_time = done.saturating_duration_since(first);
    }

    /// Adds host time spent on encoding passes that this sequence shared.
    pub(super) fn encoded(&mut self, time: Duration) {
        self.statistics.host_time += time;
    }
}

/// Checks the steps of a sequence: in invariant mode the cache does not grow beyond the planned depth.
fn check_depth(session: &SessionOptions, steps: u32) -> Result<(), Error> {
    check_steps(steps)?;
    if session.invariant && session.steps.is_some_and(|planned| steps > planned) {
        let allowed = "at most the steps that the batch was created with, in invariant mode";
        return Err(Error::Option { name: "steps", value: steps.to_string(), allowed });
    }
    Ok(())
}

/// Whether a sequence can share passes with others: each row exits on its own, and no row is ahead of the known tokens.
pub(super) fn shares_passes(options: &GenerateOptions) -> bool {
    let apart = |exit: Exit| match exit.prefill {
        PrefillExit::Each => !exit.criterion.reads_out(),
        PrefillExit::Together | PrefillExit::Posthoc => false,
        PrefillExit::Never => true,
    };
    // With early exit, the host learns too late which token a row is at to set the depth of the next one.
    let known = options.exit.is_none() || options.steps_of.is_none();
    !options.is_parallel() && known && options.exit.is_none_or(|exit| apart(exit) && !exit.posthoc)
}
