//! Passes that wait for their results: tokens go in, logits come out.

use ruminate_shaders::Row;
use ruminate_shaders::exit::{KEPT_VALUES, Memo};

use crate::early_exit::{Checks, Depth, Exit, PrefillExit, outputs};
use crate::error::Error;
use crate::options::State;
use crate::plans::{PlanKey, Stage};
use crate::session::Session;

/// Result of [`Session::forward_until_exit`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forward {
    /// Logits of the last token, or of all tokens `[outputs, vocab]`.
    pub logits: Vec<f32>,
    /// Steps of each token; empty if none could exit early.
    pub steps: Vec<u32>,
    /// Values of the first [`KEPT_VALUES`] checks of each token. If the criterion uses logits, only of tokens that were read out.
    pub values: Vec<Vec<f32>>,
}

impl Session {
    /// Appends tokens, computes them at a fixed depth and returns the logits of the last token, or of all of them.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`], [`Error::Option`], [`Error::Token`], or device errors.
    pub fn forward(&mut self, tokens: &[u32], steps: u32, state: State<'_>, all: bool) -> Result<Vec<f32>, Error> {
        Ok(self.pass(tokens, Depth::fixed(steps), None, state, all)?.logits)
    }

    /// Appends tokens and computes them with early exit. It returns the logits, the steps of each token and the values of its checks.
    ///
    /// A single token exits on its own; several exit as [`Exit::prefill`] says. If `all` are read out, criteria that use logits let each token exit on its own,
    /// too. Its read-out then attends to the read-outs of earlier rows at the same step, whereas with one token at a time it would attend to their final ones.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_until_exit(
        &mut self,
        tokens: &[u32],
        steps: u32,
        exit: &Exit,
        state: State<'_>,
        all: bool,
    ) -> Result<Forward, Error> {
        exit.validate(self.store.model.spec())?;
        let depth = Depth { steps, exit: Some(*exit) };
        let each = all && exit.criterion.reads_out() && exit.prefill == PrefillExit::Each;
        let checks = match tokens.len() {
            1 => depth.decoding(),
            _ if each => Some(Checks::of(exit, true)),
            _ => depth.prefill(),
        };
        self.pass(tokens, depth, checks, state, all)
    }

    fn pass(
        &mut self,
        tokens: &[u32],
        depth: Depth,
        checks: Option<Checks>,
        state: State<'_>,
        all: bool,
    ) -> Result<Forward, Error> {
        self.check(tokens, depth.steps, state)?;
        self.stop();
        self.store.tables.write_exit_params(self.store.model.device(), 0, depth.exit_params(u32::MAX))?;
        let n = self.store.model.spec().width as usize;
        let mut found = Forward::default();
        let mut rest = tokens;
        let mut states = state;
        let most = if all { self.store.most_outputs() } else { self.store.most_rows() } as usize;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(rest.len().min(most));
            let (given, remaining) = match states {
                State::Seeded | State::Carried => (states, states),
                State::Given(values) => {
                    let (now, then) = values.split_at(chunk.len() * n);
                    (State::Given(now), State::Given(then))
                }
            };
            let outputs = if all { chunk.len() } else { outputs(later.is_empty(), checks) };
            let key = self.passes().prepare(chunk, depth.steps, given, outputs)?;
            let plan = PlanKey { checks, ..PlanKey::of(Stage::Token) };
            self.passes().execute(key, plan, &depth.counts(checks))?;
            self.own.position += chunk.len() as u32;
            if all || later.is_empty() {
                found.logits.extend(self.read_rows(
                    &self.own.plan_caches[&key].sites.logits,
                    outputs,
                    self.store.padded_vocab(),
                )?);
            }
            if let Some(checks) = checks {
                self.read_checks(key, checks, (chunk.len(), outputs), &mut found)?;
            }
            (rest, states) = (later, remaining);
        }
        Ok(found)
    }

    /// Reads the steps that the rows of a pass took, and the values of their checks.
    fn read_checks(
        &self,
        key: (u32, u32),
        checks: Checks,
        (rows, outputs): (usize, usize),
        found: &mut Forward,
    ) -> Result<(), Error> {
        let (device, plans) = (self.store.model.device(), &self.own.plan_caches[&key]);
        let Some(exits) = &plans.exits else { return Ok(()) };
        let table = device.read(&plans.sites.rows, 0..rows as u64 * size_of::<Row>() as u64)?;
        let table: Vec<Row> = bytemuck::pod_collect_to_vec(&table);
        found.steps.extend(table.iter().map(|row| row.step));
        let judged = if checks.reads_out { outputs } else { rows };
        let memos: Vec<Memo> = bytemuck::pod_collect_to_vec(&device.read(&exits.memo, 0..exits.memo.size())?);
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&device.read(&exits.values, 0..exits.values.size())?);
        let kept = values.chunks(KEPT_VALUES as usize).zip(memos);
        found
            .values
            .extend(kept.take(judged).map(|(kept, memo)| kept[..memo.checks.min(KEPT_VALUES) as usize].to_vec()));
        Ok(())
    }
}
