//! Rounds that read out every row of a prompt: how likely its tokens are.

use std::collections::hash_map::Entry;

use ruminate_engine::Buffer;
use ruminate_engine::clock::Instant;
use ruminate_shaders::Row;

use super::member::Member;
use super::round::{Purpose, Round};
use super::{Batch, Event, PromptToken, SequenceId, lost};
use crate::decoding::Chosen;
use crate::early_exit::{Checks, Depth};
use crate::error::Error;
use crate::generate::StopReason;
use crate::plans::{Choose, PlanCache, PlanKey, Stage};
use crate::sampling::MAX_LOGPROBS;
use crate::session::capacity;

/// Rows of such a round: each is read out, so each takes memory for as many logits as there are tokens.
const MOST_ROWS: usize = 64;

/// Which rows a round has scored.
#[derive(Clone, Copy)]
pub(super) struct Scoring {
    slot: usize,
    id: SequenceId,
    life: u32,
    /// Their positions.
    start: usize,
    pub(super) count: usize,
}

impl Member {
    /// Rows of the prompt that are scored: nothing follows the last token of one that is only scored; else the next token is chosen after it, in a round
    /// that everybody shares.
    fn rows_to_score(&self) -> usize {
        self.prompt as usize - usize::from(self.wanted > 0)
    }
}

impl Batch {
    /// Begins a round for the earliest prompt whose tokens are to be scored. Every other round is for everybody.
    pub(super) fn compose_scoring(&mut self) -> Result<Option<Round>, Error> {
        let others = self.table.under_way().next().is_some();
        if std::mem::take(&mut self.scored_last) && others {
            return Ok(None);
        }
        let asking = self.members.iter().zip(0..).filter_map(|(member, slot)| Some((member.as_ref()?, slot)));
        let asking = asking.filter(|(member, _)| member.scores && member.fed < member.rows_to_score());
        let Some((member, slot)) = asking.min_by_key(|(member, _)| member.id) else { return Ok(None) };

        let (start, steps) = (member.fed, member.steps);
        let depth = Depth { steps, exit: member.exit };
        let checks = member.exit.as_ref().map(|exit| Checks::of(exit, true));
        let fixed = self.options.invariant.then_some(self.table.rows());
        // Where a read-out attends to those of the tokens before it, rows follow each other.
        let alone = checks.is_some_and(|checks| checks.reads_out) || member.one_by_one();
        let most = if alone { 1 } else { fixed.unwrap_or(MOST_ROWS) };
        let count = (member.rows_to_score() - start).min(most);
        if !self.reserve(slot, (start + count) as u32, steps)? {
            return Ok(None);
        }
        let Some(member) = &mut self.members[slot] else { return Ok(None) };
        member.fed += count;
        let of = Scoring { slot, id: member.id, life: member.life, start, count };
        let known = &member.tokens;
        let rows = fixed.map_or_else(|| capacity(count as u32), |rows| rows as u32);
        let row =
            |(place, &token): (u32, &u32)| Row { output: place, ..Row::new(slot as u32, start as u32 + place, token) };
        let mut table: Vec<Row> = (0..).zip(&known[start..start + count]).map(row).collect();
        table.resize(rows as usize, Row::RESTING);
        let mut answers: Vec<u32> = known.iter().skip(start + 1).take(rows as usize).copied().collect();
        answers.resize(rows as usize, 0);
        let noise = member.noise.is_some();

        let device = self.model.device().clone();
        let plans = match self.scoring.entry(rows) {
            Entry::Occupied(plans) => plans.into_mut(),
            Entry::Vacant(place) => place.insert(PlanCache::new(&device, self.model.spec(), rows, rows)?),
        };
        device.write(&plans.sites.rows, 0, bytemuck::cast_slice(&table))?;
        device.write(&plans.sites.picked, 0, bytemuck::cast_slice(&vec![Row::RESTING; rows as usize]))?;
        device.write(&plans.chosen, 0, bytemuck::cast_slice(&answers))?;
        let logprobs = Some(MAX_LOGPROBS.min(self.model.spec().padded_vocab));
        let plan = PlanKey { choose: Choose::Given, logprobs, checks, noise, ..PlanKey::of(Stage::Token) };
        let inputs = self.model.plan_inputs(&self.kv, &self.tables, None, None);
        plans.plan(&inputs, plan)?;
        let ranks = plans.ranks.as_ref().ok_or_else(lost)?;
        let reads = [ranks.ranked.clone(), ranks.logprobs.clone(), plans.sites.picked.clone()];
        let reads: Vec<&Buffer> = reads.iter().collect();
        let execution = device.begin(plans.plan(&inputs, plan)?, &depth.counts(checks), &reads)?;
        self.scored_last = true;
        Ok(Some(Round { execution, purpose: Purpose::Scoring(of), steps, rows, since: Instant::now() }))
    }

    /// Takes note of how likely tokens of a prompt are, and hands that out once all are known.
    pub(super) fn scored(&mut self, results: &[Vec<u8>], of: Scoring, done: Instant) -> Result<(), Error> {
        let Scoring { slot, id, life, start, count } = of;
        let Some(member) = self.members[slot].as_mut().filter(|member| member.id == id && member.life == life) else {
            return Ok(());
        };
        let [ranked, logprobs, picked] = results else { return Err(lost()) };
        let ranks = [ranked.clone(), logprobs.clone()];
        let picked: Vec<Row> = bytemuck::pod_collect_to_vec(picked);
        let asked = MAX_LOGPROBS.min(self.model.spec().padded_vocab);
        let top = member.choosing.logprobs.unwrap_or(0) as usize;
        for (place, row) in picked.iter().enumerate().take(count) {
            let position = start + place;
            member.finished(position as u32, row.step);
            let Some(&token) = member.tokens[..member.prompt as usize].get(position + 1) else { continue };
            let mut found = Chosen::ranked(token, row.step, &ranks, place, Some(asked)).ok_or_else(lost)?;
            found.top.truncate(top);
            member.scored.push(PromptToken { token, logprob: found.logprob, top: found.top });
        }
        if start + count < member.rows_to_score() {
            return Ok(());
        }
        member.heard(done);
        self.hand_out_scores(slot)
    }

    /// Hands out how likely the tokens of a prompt are; if nothing is to follow, the sequence has ended.
    pub(super) fn hand_out_scores(&mut self, slot: usize) -> Result<(), Error> {
        let Some(member) = self.members[slot].as_mut() else { return Ok(()) };
        member.scores = false;
        let tokens = std::mem::take(&mut member.scored);
        self.events.push_back(Event::Prompt { id: member.id, tokens });
        if member.wanted == 0 { self.end(slot, StopReason::MaxTokens) } else { Ok(()) }
    }
}
