//! How likely given continuations are: many sequences of any lengths in one pass, without padding.
//!
//! The rows of several sequences lie one behind the other in a table; attention sees each row's own sequence only, so nothing has to be masked. Only rows in front
//! of a token of a continuation are read out, and only a number for each comes back to the host.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ruminate_engine::Buffer;
use ruminate_shaders::attention::cache::KvShare;
use ruminate_shaders::{NONE, Row};

use crate::early_exit::{Checks, Depth, Exit};
use crate::error::Error;
use crate::kv::KvCache;
use crate::memory_budget;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::plans::{Choose, PlanCache, PlanKey, Stage};
use crate::sequence_tables::SequenceTables;
use crate::session::{INVARIANT_ROWS, MAX_ROWS, capacity, check_steps, check_tokens};
use crate::tokenizer::{Specials, Tokenizer};

/// A text to score, and what comes before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Tokens before it, at least one.
    pub context: Vec<u32>,
    /// Tokens to score, at least one.
    pub continuation: Vec<u32>,
}

/// How likely a continuation is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Likelihood {
    /// The sum of the log-probabilities of its tokens, each given all before it, in nats.
    pub logprob: f64,
    /// Whether each of them is the most likely one.
    pub greedy: bool,
    /// Its tokens.
    pub tokens: u32,
    /// Steps that the rows in front of them took, all together.
    pub steps: u64,
}

/// How continuations are scored.
#[derive(Clone, Debug)]
pub struct LikelihoodOptions {
    /// Sequences of one pass, at most, 1 to 256.
    pub sequences: u32,
    /// Steps of every row, at most; by default the model's mean recurrence.
    pub steps: Option<u32>,
    /// When a row has been iterated enough: each leaves by itself. With criteria that look at the next token, passes go token by token, one of every sequence.
    pub exit: Option<Exit>,
    /// How keys and values are held, and where states begin. Every sequence begins from the states of [`SessionOptions::seed`].
    pub session: SessionOptions,
}

impl Default for LikelihoodOptions {
    fn default() -> Self {
        Self { sequences: 32, steps: None, exit: None, session: SessionOptions::default() }
    }
}

/// A row to compute: sequence of the group, position, token, and the token that should follow, if that is asked.
#[derive(Clone, Copy)]
struct Asked {
    sequence: u32,
    position: u32,
    token: u32,
    answer: Option<u32>,
    /// Rows of a later stage need those of an earlier one to be finished.
    stage: u32,
}

/// What the passes of one call stand on.
struct Scorer<'m> {
    model: &'m Model,
    kv: KvCache,
    tables: SequenceTables,
    plan_caches: HashMap<u32, PlanCache>,
    depth: Depth,
    checks: Option<Checks>,
    fixed: Option<u32>,
    /// Whether steps share keys.
    shares: bool,
}

impl Model {
    /// Scores continuations, in any order of lengths. `progress` hears how many are done, and says whether to go on; if not, there are fewer results than
    /// continuations.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`] for a continuation without context or without tokens, [`Error::PromptTooLong`], [`Error::Token`], [`Error::Option`], or the
    /// device's.
    pub fn likelihoods(
        &self,
        continuations: &[Continuation],
        options: &LikelihoodOptions,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Likelihood>, Error> {
        let mut scorer = Scorer::new(self, options)?;
        continuations.iter().try_for_each(|item| scorer.check(item))?;
        let mut all = Vec::with_capacity(continuations.len());
        while all.len() < continuations.len() {
            let group = group(&continuations[all.len()..], options.sequences as usize);
            all.extend(scorer.score(group)?);
            if !progress(all.len()) {
                break;
            }
        }
        Ok(all)
    }
}

/// The first of them that go together: so many at most, and no more rows than a pass has, since all of them are in the cache at once.
fn group(rest: &[Continuation], sequences: usize) -> &[Continuation] {
    let ends = rest.iter().scan(0, |rows, item| {
        *rows += item.context.len() + item.continuation.len() - 1;
        Some(*rows)
    });
    let count = ends.take_while(|&rows| rows <= MAX_ROWS as usize).count();
    &rest[..count.clamp(1, sequences.min(rest.len()))]
}

impl Continuation {
    /// Encodes a text and what comes before it, which is preceded by what the tokenizer puts before a text. White space at the end of the context belongs to the
    /// continuation: so tokens are cut. Where both together begin with the context's own tokens, the rest is the continuation; else it is encoded by itself.
    ///
    /// # Errors
    /// The tokenizer's, or [`Error::EmptyPrompt`] if there is nothing to score, or nothing before it.
    pub fn encode(tokenizer: &Tokenizer, context: &str, continuation: &str) -> Result<Self, Error> {
        let specials = Specials::Prompt;
        let whole = tokenizer.encode(&format!("{context}{continuation}"), specials)?;
        let before = context.trim_end();
        let after = format!("{}{continuation}", &context[before.len()..]);
        let context = tokenizer.encode(before, specials)?;
        let continuation = match whole.strip_prefix(&context[..]) {
            Some(rest) if !rest.is_empty() => rest.to_vec(),
            _ => tokenizer.encode(&after, Specials::None)?,
        };
        if context.is_empty() || continuation.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        Ok(Self { context, continuation })
    }
}

impl<'m> Scorer<'m> {
    fn new(model: &'m Model, options: &LikelihoodOptions) -> Result<Self, Error> {
        let LikelihoodOptions { sequences, steps, exit, session } = options;
        exit.map_or(Ok(()), |exit| exit.validate(model.spec()))?;
        if *sequences == 0 || *sequences > MAX_ROWS {
            let value = sequences.to_string();
            return Err(Error::Option { name: "sequences", value, allowed: "from 1 to 256" });
        }
        let (spec, device) = (model.spec(), model.device());
        let steps = steps.unwrap_or(spec.steps.default);
        check_steps(steps)?;
        let session = &SessionOptions { steps: Some(session.steps.unwrap_or(steps).max(steps)), ..session.clone() };
        let (context, planned) = memory_budget::checked(spec, session, device)?;
        let tables = SequenceTables::new(device, *sequences, context)?;
        let depth = Depth { steps, exit: *exit };
        for sequence in 0..*sequences {
            tables.write_sequence(device, sequence, session.sequence(spec, steps))?;
            tables.write_exit_params(device, sequence, depth.exit_params(u32::MAX))?;
        }
        Ok(Self {
            model,
            kv: KvCache::new(model, session, (*sequences, context, planned))?,
            tables,
            plan_caches: HashMap::new(),
            depth,
            checks: exit.as_ref().map(|exit| Checks::of(exit, true)),
            fixed: session.invariant.then_some(INVARIANT_ROWS),
            shares: session.share != KvShare::None,
        })
    }

    fn check(&self, Continuation { context, continuation }: &Continuation) -> Result<(), Error> {
        let (last, before) = continuation.split_last().ok_or(Error::EmptyPrompt)?;
        let spec = self.model.spec();
        check_tokens(spec, context, 0, self.kv.context())?;
        // The last token is only ever an answer.
        check_tokens(spec, &[context, before].concat(), 0, self.kv.context())?;
        check_tokens(spec, &[*last], 0, self.kv.context())
    }

    /// Scores as many sequences as the cache holds.
    fn score(&mut self, group: &[Continuation]) -> Result<Vec<Likelihood>, Error> {
        let reads_out = self.checks.is_some_and(|checks| checks.reads_out);
        let stage = |position: usize, before: usize| match () {
            // A read-out sees those of the tokens before it.
            () if reads_out => position as u32,
            // What is decoded sees the last of the keys that steps share, rows of a prompt those of its own step.
            () if self.shares => (position + 1).saturating_sub(before) as u32,
            () => 0,
        };
        let rows = |(sequence, item): (u32, &Continuation)| {
            let (before, count) = (item.context.len(), item.context.len() + item.continuation.len());
            let tokens: Vec<u32> = item.context.iter().chain(&item.continuation).copied().collect();
            let row = move |position: usize| Asked {
                sequence,
                position: position as u32,
                token: tokens[position],
                answer: (position + 1 >= before).then(|| tokens[position + 1]),
                stage: stage(position, before),
            };
            (0..count - 1).map(row).collect::<Vec<_>>()
        };
        let mut all: Vec<Asked> = (0..).zip(group).flat_map(rows).collect();
        let most = self.fixed.unwrap_or(MAX_ROWS) as usize;
        all.sort_by_key(|row| row.stage);
        let mut found = vec![Likelihood { greedy: true, ..Likelihood::default() }; group.len()];
        for together in all.chunk_by(|a, b| a.stage == b.stage) {
            together.chunks(most).try_for_each(|rows| self.pass(rows, reads_out, &mut found))?;
        }
        (0..group.len() as u32).try_for_each(|sequence| self.kv.release(sequence))?;
        Ok(found)
    }

    /// Computes rows, and adds what is asked of them.
    fn pass(&mut self, asked: &[Asked], all_read_out: bool, found: &mut [Likelihood]) -> Result<(), Error> {
        let (device, spec) = (self.model.device().clone(), self.model.spec());
        let rows = self.fixed.unwrap_or_else(|| capacity(asked.len() as u32));
        for row in asked {
            self.kv.reserve(row.sequence, row.position + 1, self.depth.steps)?;
        }
        let Self { model, kv, tables, plan_caches, checks, depth, .. } = self;
        let plans = match plan_caches.entry(rows) {
            Entry::Occupied(plans) => plans.into_mut(),
            Entry::Vacant(place) => place.insert(PlanCache::new(&device, spec, rows, rows)?),
        };
        let mut table = vec![Row::RESTING; rows as usize];
        let mut answers = vec![0; rows as usize];
        let mut judged = Vec::new();
        for (entry, row) in table.iter_mut().zip(asked) {
            let read_out = all_read_out || row.answer.is_some();
            let output = if read_out { judged.len() as u32 } else { NONE };
            *entry = Row { output, ..Row::new(row.sequence, row.position, row.token) };
            if read_out {
                answers[judged.len()] = row.answer.unwrap_or(0);
                judged.push(row);
            }
        }
        device.write(&plans.sites.rows, 0, bytemuck::cast_slice(&table))?;
        device.write(&plans.sites.picked, 0, bytemuck::cast_slice(&vec![Row::RESTING; rows as usize]))?;
        device.write(&plans.chosen, 0, bytemuck::cast_slice(&answers))?;
        let plan = PlanKey { choose: Choose::Given, logprobs: Some(1), checks: *checks, ..PlanKey::of(Stage::Token) };
        let inputs = model.plan_inputs(kv, tables, None, None);
        plans.plan(&inputs, plan)?;
        let ranks = plans.ranks.as_ref().ok_or(Error::bug("a plan that ranks tokens has buffers for them"))?;
        let reads = [ranks.ranked.clone(), ranks.logprobs.clone(), plans.sites.picked.clone()];
        let reads: Vec<&Buffer> = reads.iter().collect();
        let ticket = device.execute(plans.plan(&inputs, plan)?, &depth.counts(*checks), &reads)?;
        let results = ticket.map(ruminate_engine::ReadBack::wait).transpose()?.unwrap_or_default();
        let [ranked, logprobs, picked] = &results[..] else {
            return Err(ruminate_engine::Error::ReadBack("no scores came back".to_owned()).into());
        };
        let ranked: Vec<u32> = bytemuck::pod_collect_to_vec(ranked);
        let logprobs: Vec<f32> = bytemuck::pod_collect_to_vec(logprobs);
        let picked: Vec<Row> = bytemuck::pod_collect_to_vec(picked);
        // Each read-out has the token that was asked for, and the most likely one.
        for (((row, ranked), logprobs), picked) in
            judged.iter().zip(ranked.chunks(2)).zip(logprobs.chunks(2)).zip(picked)
        {
            let Some(answer) = row.answer else { continue };
            let sum = &mut found[row.sequence as usize];
            sum.logprob += f64::from(logprobs[0]);
            sum.greedy &= ranked[1] == answer;
            sum.tokens += 1;
            sum.steps += u64::from(picked.step);
        }
        Ok(())
    }
}
