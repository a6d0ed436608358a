//! Passes of a generation: how its tokens are computed and chosen, and the work for each pass.

use ruminate_engine::{Buffer, Execution};
use ruminate_shaders::Row;
use ruminate_shaders::exit::Continuous;
use ruminate_shaders::recur::NoiseRule;

use crate::diffusion::Given;
use crate::early_exit::{Depth, outputs};
use crate::error::Error;
use crate::options::State;
use crate::parallel_decoding::ParallelDecoding;
use crate::plans::{Choose, Follow, PlanKey, Stage};
use crate::sampling::Choosing;
use crate::schedule::passes::Passes;
use crate::session::check_steps;

/// Settings that all tokens of a generation are computed and chosen with.
#[derive(Clone, Debug)]
pub(crate) struct Decoding {
    pub(crate) depth: Depth,
    pub(crate) continuous: Option<Continuous>,
    pub(crate) noise: Option<NoiseRule>,
    pub(crate) choosing: Choosing,
    /// Whether the prompt is a single token that starts from the state of the last generation.
    pub(crate) carries: bool,
    /// Parallel decoding, with the rows of its table.
    pub(crate) parallel: Option<(ParallelDecoding, u32)>,
    /// Whether only the prompt is computed and no token is chosen.
    pub(crate) silent: bool,
    /// Values that a wavefront uses instead of random numbers.
    pub(crate) given: Option<Given>,
}

impl Decoding {
    /// Steps whose keys are stored: those of a token, or of a round.
    pub(crate) fn slots(&self) -> u32 {
        match self.parallel {
            Some((ParallelDecoding::Wavefront(current), _)) => self.depth.steps.max(current.steps),
            _ => self.depth.steps,
        }
    }

    /// Whether the prompt's pass chooses the first token.
    pub(crate) fn begins_with_the_prompt(&self) -> bool {
        self.parallel.is_none_or(|(parallel, _)| parallel.begins_with_the_prompt())
    }

    /// Plan of a decoded token.
    pub(crate) fn token(&self) -> PlanKey {
        let follow = match self.parallel {
            None => Follow::Feed,
            Some((ParallelDecoding::Drafts { .. }, rows)) => Follow::Draft(rows),
            Some((ParallelDecoding::Pipelined { .. } | ParallelDecoding::Wavefront(_), rows)) => Follow::Start(rows),
        };
        // Drafts have their own depth.
        let checks = if self.parallel.is_some() { None } else { self.depth.decoding() };
        let (continuous, noise) = (self.continuous, self.noise.is_some());
        PlanKey { follow, checks, continuous, noise, ..PlanKey::choosing(&self.choosing) }
    }

    /// Plan of a decoded row. Drafts are not reported until verified, so their tokens are not ranked.
    pub(crate) fn decoded(&self) -> PlanKey {
        let plan = self.token();
        if self.parallel.is_some() { PlanKey { logprobs: None, ..plan } } else { plan }
    }

    /// Plan of a chunk of the prompt; the last one chooses a token.
    fn prompt(&self, last: bool) -> PlanKey {
        let checks = self.depth.prefill();
        let other = PlanKey { noise: self.noise.is_some(), ..PlanKey::of(Stage::Token) };
        PlanKey { checks, ..if last && !self.silent { self.token() } else { other } }
    }
}

/// A token and its row's results, as read back from a pass.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) token: u32,
    /// Steps of the row.
    pub(crate) steps: u32,
    /// Log-probability of the token, if requested.
    pub(crate) logprob: Option<f32>,
    /// The most likely tokens with their log-probabilities, if requested.
    pub(crate) top: Vec<(u32, f32)>,
}

impl Chosen {
    /// Reads the results of a pass with one read-out that ranked `ranked` tokens.
    pub(crate) fn from_results(results: &[Vec<u8>], ranked: Option<u32>) -> Option<Self> {
        let [token, row, rest @ ..] = results else { return None };
        let token = u32::from_le_bytes(*token.first_chunk()?);
        let row: Row = bytemuck::pod_read_unaligned(row.get(..size_of::<Row>())?);
        Self::ranked(token, row.step, rest, 0, ranked)
    }

    /// Combines a token with its log-probability and those of `count` other tokens, taken from read-out `place`.
    pub(crate) fn ranked(token: u32, steps: u32, ranks: &[Vec<u8>], place: usize, count: Option<u32>) -> Option<Self> {
        let mut found = Self { token, steps, logprob: None, top: Vec::new() };
        if let (Some(count), [tokens, logprobs]) = (count, ranks) {
            let entries = place * (1 + count as usize)..(place + 1) * (1 + count as usize);
            let tokens: Vec<u32> = bytemuck::pod_collect_to_vec(tokens);
            let logprobs: Vec<f32> = bytemuck::pod_collect_to_vec(logprobs);
            let logprobs = logprobs.get(entries.clone())?;
            found.logprob = logprobs.first().copied();
            found.top = tokens.get(entries)?.iter().copied().zip(logprobs.iter().copied()).skip(1).collect();
        }
        Some(found)
    }
}

impl Passes<'_> {
    /// Prepares a generation: reserves pages for its prompt and records the plans of all its passes.
    pub(crate) fn make_ready(&mut self, prompt: &[u32], decoding: &Decoding, goes_on: bool) -> Result<(), Error> {
        let steps = decoding.depth.steps;
        self.set_choosing(&decoding.choosing)?;
        // If rows are at different steps, each row counts its own.
        let most =
            if matches!(decoding.parallel, Some((ParallelDecoding::Pipelined { .. }, _))) { steps } else { u32::MAX };
        self.store.tables.write_exit_params(
            self.store.model.device(),
            self.own.slot,
            decoding.depth.exit_params(most),
        )?;
        self.store.tables.write_noise(self.store.model.device(), self.own.slot, decoding.noise)?;
        // Reserve the first token after the prompt, too, if there is a position for it.
        let end = self.own.position + prompt.len() as u32 + u32::from(goes_on);
        self.reserve(end.min(self.store.context()), decoding.slots())?;
        if decoding.parallel.is_some() {
            self.prepare_parallel(decoding, prompt)?;
        }
        if !decoding.begins_with_the_prompt() {
            return Ok(());
        }
        let mut chunks = prompt.chunks(self.store.most_rows() as usize).peekable();
        while let Some(chunk) = chunks.next() {
            let key = self.store.key(chunk.len() as u32, false);
            self.plans_for(key)?;
            self.plan(key, decoding.prompt(chunks.peek().is_none()))?;
        }
        if goes_on
            && !matches!(
                decoding.parallel,
                Some((ParallelDecoding::Pipelined { .. } | ParallelDecoding::Wavefront(_), _))
            )
        {
            let key = self.store.single();
            self.plans_for(key)?;
            self.plan(key, decoding.decoded())?;
        }
        Ok(())
    }

    /// Begins a pass over at most [`Store::most_rows`](crate::schedule::store::Store::most_rows) tokens of a prompt, starting at `start`. From the row of the
    /// last one, a token is chosen and read back.
    pub(crate) fn begin_prompt(
        &mut self,
        (start, chunk): (usize, &[u32]),
        last: bool,
        decoding: &Decoding,
    ) -> Result<Execution, Error> {
        let plan = decoding.prompt(last);
        let n = self.store.model.spec().width as usize;
        let state = match &decoding.given {
            Some(given) if !given.states.is_empty() => State::Given(
                given
                    .states
                    .get(start * n..(start + chunk.len()) * n)
                    .ok_or(Error::bug("given states cover the prompt"))?,
            ),
            _ if decoding.carries => State::Carried,
            _ => State::Seeded,
        };
        let key = self.prepare(chunk, decoding.depth.steps, state, outputs(last && !decoding.silent, plan.checks))?;
        self.own.position += chunk.len() as u32;
        self.begin_pass(key, decoding.depth, plan)
    }

    /// Begins the pass of the row for the last chosen token, which chooses the next one.
    pub(crate) fn begin_token(&mut self, steps: u32, decoding: &Decoding) -> Result<Execution, Error> {
        check_steps(steps)?;
        self.reserve(self.own.position + 1, steps)?;
        self.own.position += 1;
        let key = self.store.single();
        self.own.last = Some((key, 0));
        self.begin_pass(key, Depth { steps, ..decoding.depth }, decoding.token())
    }

    /// Begins a pass. If it chooses a token, the token and its row are read back: [`Chosen`].
    fn begin_pass(&mut self, key: (u32, u32), depth: Depth, plan: PlanKey) -> Result<Execution, Error> {
        let device = self.store.model.device().clone();
        let plans = self.plans_for(key)?;
        let mut chosen = Vec::new();
        if plan.choose != Choose::Nothing {
            chosen.extend([plans.chosen.clone(), plans.sites.picked.clone()]);
        }
        self.plan(key, plan)?;
        if let (Some(_), Some(ranks)) = (plan.logprobs, &self.plans_for(key)?.ranks) {
            chosen.extend([ranks.ranked.clone(), ranks.logprobs.clone()]);
        }
        let reads: Vec<&Buffer> = chosen.iter().collect();
        Ok(device.begin(self.plan(key, plan)?, &depth.counts(plan.checks), &reads)?)
    }

    /// Sets the position to the end of the returned tokens and discards later positions.
    pub(crate) fn discard_beyond(&mut self, position: u32) {
        if position < self.own.position {
            self.own.position = position;
            self.own.last = None;
        }
    }
}
