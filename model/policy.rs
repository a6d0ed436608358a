//! The passes of a generation: how its tokens are computed and chosen, and what a session does for each.

use ruminate_engine::{Buffer, Execution};
use ruminate_shaders::Row;

use crate::ahead::Lead;
use crate::error::Error;
use crate::exit::{Depth, outputs};
use crate::options::{Continuous, Sampling, State};
use crate::session::{Session, check_steps};
use crate::workspace::{Choose, Follow, PlanKey, Stage};

/// How tokens are computed and chosen, all through a generation.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) depth: Depth,
    pub(crate) continuous: Option<Continuous>,
    pub(crate) sampling: Sampling,
    /// How far ahead of what is known is computed, and in a table of how many rows.
    pub(crate) lead: Option<(Lead, u32)>,
}

impl Policy {
    /// How tokens are chosen.
    pub(crate) fn chooses(&self) -> Choose {
        Choose::of(self.sampling)
    }

    /// The plan of a decoded token.
    pub(crate) fn token(&self) -> PlanKey {
        let follow = match self.lead {
            None => Follow::Feed,
            Some((Lead::Drafts { .. }, rows)) => Follow::Draft(rows),
            Some((Lead::Guesses { .. }, rows)) => Follow::Start(rows),
        };
        // Drafts have a depth of their own.
        let checks = if self.lead.is_some() { None } else { self.depth.decoding() };
        PlanKey { choose: self.chooses(), follow, checks, continuous: self.continuous, ..PlanKey::of(Stage::Token) }
    }

    /// The plan of a piece of the prompt; the last one chooses a token.
    fn prompt(&self, last: bool) -> PlanKey {
        let checks = self.depth.prefill();
        if last { PlanKey { checks, ..self.token() } } else { PlanKey { checks, ..PlanKey::of(Stage::Token) } }
    }
}

/// A token and the row that it was chosen behind, as a pass reads them back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub(crate) token: u32,
    /// Steps that the row took.
    pub(crate) steps: u32,
}

impl Chosen {
    /// From the results of a pass of one read-out.
    pub(crate) fn from_results(results: &[Vec<u8>]) -> Option<Self> {
        let [token, row] = results else { return None };
        let token = u32::from_le_bytes(*token.first_chunk()?);
        let row: Row = bytemuck::pod_read_unaligned(row.get(..size_of::<Row>())?);
        Some(Self { token, steps: row.step })
    }
}

impl Session {
    /// Makes what a generation needs: room for its prompt, and the plans of all its passes.
    pub(crate) fn make_ready(&mut self, prompt: &[u32], policy: &Policy, goes_on: bool) -> Result<(), Error> {
        let steps = policy.depth.steps;
        self.check(prompt, steps, State::Seeded)?;
        self.set_sampling(policy.sampling)?;
        // With the first token behind the prompt, if there is a position for it.
        let end = self.position + prompt.len() as u32 + u32::from(goes_on);
        self.kv.reserve(0, end.min(self.context()), steps)?;
        if policy.lead.is_some() {
            self.make_ready_ahead(policy, self.position + prompt.len() as u32)?;
        }
        let mut chunks = prompt.chunks(self.most_rows() as usize).peekable();
        while let Some(chunk) = chunks.next() {
            let key = self.key(chunk.len() as u32, false);
            self.space(key)?;
            self.plan(key, policy.prompt(chunks.peek().is_none()))?;
        }
        if goes_on && !matches!(policy.lead, Some((Lead::Guesses { .. }, _))) {
            let key = self.single();
            self.space(key)?;
            self.plan(key, policy.token())?;
        }
        Ok(())
    }

    /// Begins to compute at most [`Session::most_rows`] tokens of a prompt; behind the last of them, a token is chosen and read back.
    pub(crate) fn begin_prompt(&mut self, chunk: &[u32], last: bool, policy: &Policy) -> Result<Execution, Error> {
        let plan = policy.prompt(last);
        let key = self.prepare(chunk, policy.depth.steps, State::Seeded, outputs(last, plan.checks))?;
        self.position += chunk.len() as u32;
        self.begin_pass(key, policy.depth, plan)
    }

    /// Begins to compute the row that the last choice made, and to choose the next token.
    pub(crate) fn begin_token(&mut self, steps: u32, policy: &Policy) -> Result<Execution, Error> {
        check_steps(steps)?;
        self.kv.reserve(0, self.position + 1, steps)?;
        self.position += 1;
        let key = self.single();
        self.last = Some((key, 0));
        self.begin_pass(key, Depth { steps, ..policy.depth }, policy.token())
    }

    /// Begins a pass. If it chooses a token, what is read back is that, and the row that it was chosen behind: [`Chosen`].
    fn begin_pass(&mut self, key: (u32, u32), depth: Depth, plan: PlanKey) -> Result<Execution, Error> {
        let device = self.model.device().clone();
        let space = self.space(key)?;
        let chosen = [space.chosen.clone(), space.sites.picked.clone()];
        let reads: Vec<&Buffer> = chosen.iter().filter(|_| plan.choose != Choose::Nothing).collect();
        Ok(device.begin(self.plan(key, plan)?, &depth.counts(plan.checks), &reads)?)
    }

    /// Sets the position to what a generation handed out: passes beyond it were computed for nobody.
    pub(crate) fn settle(&mut self, position: u32) {
        if position < self.position {
            self.position = position;
            self.last = None;
        }
    }
}
