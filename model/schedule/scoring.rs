//! Rounds that score given tokens: how likely each one is.
//!
//! Rows of several sequences share a pass without padding, because attention sees only the row's own sequence. Rows whose next token is scored are read out,
//! and only two numbers for each are returned to the host. [`Model::likelihoods`](crate::Model::likelihoods) and
//! [`GenerateOptions::prompt_logprobs`](crate::GenerateOptions::prompt_logprobs) both use these rounds.

use std::collections::hash_map::Entry;

use ruminate_engine::Buffer;
use ruminate_engine::clock::Instant;
use ruminate_shaders::{NONE, Row};

use super::member::Member;
use super::round::{Purpose, Round};
use super::{Batch, Event, PromptToken, SequenceId, lost};
use crate::decoding::Chosen;
use crate::early_exit::{Checks, Depth, Exit, PrefillExit};
use crate::error::Error;
use crate::generate::{Prompt, StopReason};
use crate::options::GenerateOptions;
use crate::plans::{Choose, PlanCache, PlanKey, Stage};
use crate::sampling::MAX_LOGPROBS;
use crate::session::{MAX_ROWS, capacity};

/// Maximum number of read-outs of a round: each needs memory for the logits of the whole vocabulary.
const MOST_OUTPUTS: u32 = 64;

/// Given tokens of a sequence to be scored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scores {
    /// Index of the first scored token, at least 1, because the very first token has no probability.
    pub(super) from: usize,
    /// Token after the prompt that is scored, too, but not computed.
    pub(super) last: Option<u32>,
}

/// Rows of a scoring round.
pub(super) struct Scoring {
    parts: Vec<Part>,
    /// Number of tokens ranked for each given one.
    ranked: u32,
    /// Rows and read-outs of its plan cache.
    key: (u32, u32),
}

/// Rows of one sequence in a scoring round.
struct Part {
    slot: usize,
    id: SequenceId,
    life: u32,
    /// Position of the first row.
    start: usize,
    count: usize,
    /// Number of leading rows that are not read out.
    silent: usize,
}

impl Scoring {
    /// Number of active rows.
    pub(super) fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.count as u64).sum()
    }

    /// Number of rows that are read out.
    fn outputs(&self) -> usize {
        self.parts.iter().map(|part| part.count - part.silent).sum()
    }
}

impl Member {
    /// Number of rows computed in scoring rounds. The row of the last prompt token is left out if a token is to be chosen from it, which happens in a shared
    /// round.
    fn rows_to_score(&self) -> usize {
        self.prompt as usize - usize::from(self.wanted > 0)
    }

    /// Given token after a position.
    fn given_after(&self, position: usize) -> Option<u32> {
        let prompt = self.tokens[..self.prompt as usize].get(position + 1).copied();
        prompt.or_else(|| self.scores.and_then(|scores| scores.last))
    }

    /// Number of rows from `start` that may share a pass, and how many of them precede the first read-out.
    fn rows_together(&self, start: usize, scores: Scores, reads_out: bool) -> (usize, usize) {
        let rest = self.rows_to_score() - start;
        let before = (scores.from - 1).saturating_sub(start).min(rest);
        match () {
            // Read-outs attend to the read-outs of earlier tokens, so rows run one after the other.
            () if reads_out => (1, 0),
            // A row that is read out attends to the last of the keys shared between steps; context rows attend to those of their own step, as in a session's
            // prompt.
            () if self.one_by_one() => ((before + 1).min(rest), before),
            () => (rest, before),
        }
    }
}

impl Batch {
    /// Adds a sequence of given tokens. Only the tokens of `continuation` are scored, and the row of the last token is not computed. Every row exits on its
    /// own, whatever [`Exit::prefill`] is.
    pub(crate) fn add_given(
        &mut self,
        (context, continuation): (&[u32], &[u32]),
        depth: Depth,
    ) -> Result<SequenceId, Error> {
        let (&last, before) = continuation.split_last().ok_or(Error::EmptyPrompt)?;
        let exit = depth.exit.map(|exit| Exit { prefill: PrefillExit::Each, ..exit });
        let options = GenerateOptions {
            steps: Some(depth.steps),
            exit,
            max_tokens: Some(0),
            logprobs: Some(1),
            ..GenerateOptions::default()
        };
        let seed = self.store.options.seed;
        let mut member = self.member_of(Prompt::Tokens(&[context, before].concat()), seed, &options)?;
        member.scores = Some(Scores { from: context.len(), last: Some(last) });
        self.enqueue(member)
    }

    /// Begins a scoring round for the oldest sequence that needs one and all others of the same depth. Scoring rounds alternate with shared ones if other rows
    /// are under way.
    pub(super) fn compose_scoring(&mut self) -> Result<Option<Round>, Error> {
        let others = self.table.under_way().next().is_some();
        if std::mem::take(&mut self.scored_last) && others || self.deep.is_some() {
            return Ok(None);
        }
        let asking = self.members.iter().zip(0..).filter_map(|(member, slot)| Some((member.as_ref()?, slot)));
        let asking = asking.filter(|(member, _)| member.scores.is_some() && member.fed < member.rows_to_score());
        let mut asking: Vec<(SequenceId, usize)> = asking.map(|(member, slot)| (member.id, slot)).collect();
        asking.sort_unstable();
        let Some(depth) = asking.first().and_then(|&(_, slot)| self.depth_of(slot)) else { return Ok(None) };
        let checks = depth.exit.as_ref().map(|exit| Checks::of(exit, true));

        let mut scoring = self.gather(&asking, depth, checks)?;
        if scoring.parts.is_empty() {
            return Ok(None);
        }
        let fixed = self.store.options.invariant.then_some(self.table.rows() as u32);
        let [rows, outputs] = [scoring.rows() as usize, scoring.outputs()];
        let [rows, outputs] = [rows, outputs].map(|count| fixed.unwrap_or_else(|| capacity(count as u32)));
        scoring.key = (rows, outputs);
        let (mut table, mut answers) = self.rows_of(&scoring);
        table.resize(rows as usize, Row::RESTING);
        answers.resize(outputs as usize, 0);
        let mut members = scoring.parts.iter().filter_map(|part| self.members[part.slot].as_ref());
        let noise = members.any(|member| member.noise.is_some());

        let device = self.store.model.device().clone();
        let plans = match self.scoring.entry((rows, outputs)) {
            Entry::Occupied(plans) => plans.into_mut(),
            Entry::Vacant(place) => place.insert(PlanCache::new(&device, self.store.model.spec(), rows, outputs)?),
        };
        device.write(&plans.sites.rows, 0, bytemuck::cast_slice(&table))?;
        device.write(&plans.sites.picked, 0, bytemuck::cast_slice(&vec![Row::RESTING; outputs as usize]))?;
        device.write(&plans.chosen, 0, bytemuck::cast_slice(&answers))?;
        let logprobs = Some(scoring.ranked);
        let plan = PlanKey { choose: Choose::Given, logprobs, checks, noise, ..PlanKey::of(Stage::Token) };
        let inputs = self.store.plan_inputs(None, None);
        plans.plan(&inputs, plan)?;
        let ranks = plans.ranks.as_ref().ok_or_else(lost)?;
        let reads = [ranks.ranked.clone(), ranks.logprobs.clone(), plans.sites.rows.clone()];
        let reads: Vec<&Buffer> = reads.iter().collect();
        let execution = device.begin(plans.plan(&inputs, plan)?, &depth.counts(checks), &reads)?;
        self.scored_last = true;
        let (steps, purpose) = (depth.steps, Purpose::Scoring(scoring));
        Ok(Some(Round { execution, purpose, steps, rows, since: Instant::now() }))
    }

    /// Deactivates the rows of a sequence in rounds that are not completely submitted, because its pages may soon belong to another sequence. A deep round that
    /// serves no sequence any more is dropped.
    pub(super) fn leave_scoring(&mut self, slot: usize) -> Result<(), Error> {
        for round in self.begun.iter().chain(&self.deep) {
            let Purpose::Scoring(of) = &round.purpose else { continue };
            let Some(plans) = self.scoring.get(&of.key) else { continue };
            let mut rows = 0..0;
            for part in &of.parts {
                rows = rows.end..rows.end + part.count;
                if part.slot == slot {
                    rows.clone().try_for_each(|row| self.write_entry(&plans.sites.rows, row, Row::RESTING))?;
                }
            }
        }
        let wanted =
            |part: &Part| part.slot != slot && self.members[part.slot].as_ref().is_some_and(|it| it.id == part.id);
        if let Some(Round { purpose: Purpose::Scoring(of), .. }) = &self.deep
            && !of.parts.iter().any(wanted)
        {
            self.deep = None;
        }
        Ok(())
    }

    fn depth_of(&self, slot: usize) -> Option<Depth> {
        self.members[slot].as_ref().map(|member| Depth { steps: member.steps, exit: member.exit })
    }

    /// Chooses the rows of a round and reserves their pages.
    fn gather(
        &mut self,
        asking: &[(SequenceId, usize)],
        depth: Depth,
        checks: Option<Checks>,
    ) -> Result<Scoring, Error> {
        let fixed = self.store.options.invariant.then_some(self.table.rows());
        let (most_rows, most_outputs) =
            (fixed.unwrap_or(MAX_ROWS as usize), fixed.unwrap_or(MOST_OUTPUTS.min(self.store.most_outputs()) as usize));
        let reads_out = checks.is_some_and(|checks| checks.reads_out);
        let mut scoring = Scoring { parts: Vec::new(), ranked: 1, key: (0, 0) };
        for &(id, slot) in asking {
            // Skip a sequence that was preempted for one before it.
            let Some(member) = self.members[slot].as_ref().filter(|member| member.id == id) else { continue };
            let Some(scores) = member.scores.filter(|_| self.depth_of(slot) == Some(depth)) else { continue };
            let (together, silent) = member.rows_together(member.fed, scores, reads_out);
            let outputs = (together - silent).min(most_outputs - scoring.outputs());
            let count = (silent + outputs).min(most_rows - scoring.rows() as usize);
            if count == 0 {
                break;
            }
            let (start, life, ranked) = (member.fed, member.life, member.choosing.logprobs.unwrap_or(0));
            if !self.reserve(slot, (start + count) as u32, depth.steps)? {
                break;
            }
            let Some(member) = self.members[slot].as_mut() else { break };
            member.fed += count;
            let most = MAX_LOGPROBS.min(self.store.model.spec().padded_vocab);
            scoring.ranked = scoring.ranked.max(if ranked > 1 { most } else { 1 });
            scoring.parts.push(Part { slot, id, life, start, count, silent: silent.min(count) });
        }
        Ok(scoring)
    }

    /// Row table of a round, and the given token of every read-out.
    fn rows_of(&self, scoring: &Scoring) -> (Vec<Row>, Vec<u32>) {
        let (mut table, mut answers) = (Vec::new(), Vec::new());
        for part in &scoring.parts {
            let Some(member) = &self.members[part.slot] else { continue };
            for index in 0..part.count {
                let position = part.start + index;
                let output = if index < part.silent { NONE } else { answers.len() as u32 };
                table.push(Row { output, ..Row::new(part.slot as u32, position as u32, member.tokens[position]) });
                if output != NONE {
                    answers.push(member.given_after(position).unwrap_or(0));
                }
            }
        }
        (table, answers)
    }

    /// Collects the probabilities of given tokens, and reports them once those of a sequence are complete.
    pub(super) fn scored(&mut self, results: &[Vec<u8>], of: &Scoring, done: Instant) -> Result<(), Error> {
        let [ranked, logprobs, rows] = results else { return Err(lost()) };
        let ranks = [ranked.clone(), logprobs.clone()];
        let rows: Vec<Row> = bytemuck::pod_collect_to_vec(rows);
        let mut rows = rows.iter();
        let mut output = 0;
        for &Part { slot, id, life, start, count, silent } in &of.parts {
            let rows: Vec<&Row> = rows.by_ref().take(count).collect();
            let first = output;
            output += count - silent;
            let Some(member) = self.members[slot].as_mut().filter(|member| member.id == id && member.life == life)
            else {
                continue;
            };
            let Some(scores) = member.scores else { continue };
            let top = member.choosing.logprobs.unwrap_or(0) as usize;
            for (index, row) in rows.into_iter().enumerate() {
                let position = start + index;
                member.finished(position as u32, row.step);
                let Some(token) = member.given_after(position).filter(|_| position + 1 >= scores.from) else {
                    continue;
                };
                let place = first + index - silent;
                let found = Chosen::ranked(token, row.step, &ranks, place, Some(of.ranked)).ok_or_else(lost)?;
                let Chosen { logprob, top: mut best, .. } = found;
                best.truncate(top);
                member.scored.push(PromptToken { token, logprob, top: best, steps: row.step });
            }
            if start + count == member.rows_to_score() {
                member.heard(done);
                self.hand_out_scores(slot)?;
            }
        }
        Ok(())
    }

    /// Reports the probabilities of a prompt's tokens. Ends the sequence if no token is to be generated.
    pub(super) fn hand_out_scores(&mut self, slot: usize) -> Result<(), Error> {
        let Some(member) = self.members[slot].as_mut() else { return Ok(()) };
        let mut tokens = std::mem::take(&mut member.scored);
        if member.scores.take().is_some_and(|scores| scores.last.is_none()) {
            // The first token of a prompt has no probability.
            tokens.insert(0, PromptToken { token: member.tokens[0], ..PromptToken::default() });
        }
        self.events.push_back(Event::Prompt { id: member.id, tokens });
        if member.wanted == 0 { self.end(slot, StopReason::MaxTokens) } else { Ok(()) }
    }
}
