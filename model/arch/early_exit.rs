//! Recurrence with early exit: a row leaves the loop when its exit criterion is met, or when it has taken its own number of steps.

use ruminate_engine::{Buffer, Count};
use ruminate_shaders::exit::{Rule, exit_begin, exit_gate, exit_keep, exit_leave, exit_readout, exit_state, exit_wake};
use ruminate_shaders::recur::advance_until;

use super::loops::Looped;
use super::pass::{Pass, ReadOut};
use crate::early_exit::Checks;
use crate::error::Error;

/// Buffers of the exit checks. Like [`Sites`](super::pass::Sites), they outlive the plans.
pub(crate) struct ExitSites {
    /// States at the last check `[rows, width]`, if a check compares states.
    pub(crate) states: Option<Buffer>,
    /// Log-probabilities at the last check `[outputs, vocab]`, if a check compares read-outs.
    pub(crate) read_outs: Option<Buffer>,
    /// Per-row values that checks keep from one check to the next.
    pub(crate) memo: Buffer,
    /// States with which rows would have exited `[rows, width]`, if all steps are computed nevertheless.
    pub(crate) kept: Option<Buffer>,
    /// Values of each row's first checks `[rows, KEPT_VALUES]`.
    pub(crate) values: Buffer,
}

/// Checks, their buffers, and the exit parameters of each sequence.
type Leaving<'a> = (Checks, &'a ExitSites, &'a Buffer);

impl Looped {
    /// Applies the core block with exit checks: a row that meets its criterion exits, and is skipped until the loop ends. The counts are those of
    /// `Depth::counts`.
    pub(crate) fn iterate_until_exit(
        &self,
        pass: &mut Pass<'_>,
        leaving: Leaving<'_>,
        [free, rounds, last, rest]: [Count; 4],
    ) -> Result<(), Error> {
        let Pass { device, kv, sequences, sites, shape, noise, trace, .. } = *pass;
        self.begin_checks(pass, leaving)?;
        self.iterate(pass, free)?;
        let (table, count) = (pass.rows(), pass.shape.rows);
        pass.graph.repeat_while_live(rounds, table, count, |graph| {
            let pass = &mut Pass { graph, device, kv, sequences, sites, shape, noise, trace };
            self.checked_step(pass, leaving)?;
            self.iterate(pass, Count::from(leaving.0.every - 1))
        })?;
        pass.graph.repeat_while_live(last, table, count, |graph| {
            self.checked_step(&mut Pass { graph, device, kv, sequences, sites, shape, noise, trace }, leaving)
        })?;
        pass.graph.repeat_while_live(rest, table, count, |graph| {
            self.plain_step(&mut Pass { graph, device, kv, sequences, sites, shape, noise, trace })
        })?;
        pass.graph.launch(exit_wake(count), &[table])?;
        let (checks, exit, exit_params) = leaving;
        let Some(kept) = exit.kept.as_ref().filter(|_| checks.rule == Rule::Never) else { return Ok(()) };
        let [exit_params, state, kept, memo] =
            [exit_params, &sites.state, kept, &exit.memo].map(|it| pass.graph.import(it));
        let launch = exit_keep(count, kv.sequences(), self.spec.width, true);
        Ok(pass.graph.launch(launch, &[table, exit_params, state, kept, memo])?)
    }

    /// Applies the core block `steps` times. A row exits when it has taken all its sequence's steps or meets the exit criterion, and is skipped from then on.
    pub(crate) fn iterate_to_the_end(
        &self,
        pass: &mut Pass<'_>,
        leaving: Option<Leaving<'_>>,
        steps: Count,
    ) -> Result<(), Error> {
        let Pass { device, kv, sequences, sites, shape, noise, trace, .. } = *pass;
        if let Some(leaving) = leaving {
            self.begin_checks(pass, leaving)?;
        }
        pass.graph.repeat(steps, |graph| {
            let pass = &mut Pass { graph, device, kv, sequences, sites, shape, noise, trace };
            if let Some(leaving) = leaving {
                return self.checked_step(pass, leaving);
            }
            self.step(pass)?;
            let bound = [pass.rows(), pass.graph.import(sequences)];
            Ok(pass.graph.launch(advance_until(shape.rows, kv.sequences()), &bound)?)
        })
    }

    /// Clears the check memory of earlier rows for the rows that begin.
    fn begin_checks(&self, pass: &mut Pass<'_>, (checks, exit, _): Leaving<'_>) -> Result<(), Error> {
        let (rows, state) = (pass.rows(), pass.graph.import(&pass.sites.state));
        let memo = pass.graph.import(&exit.memo);
        let previous = if checks.reads_out && !checks.states { &exit.read_outs } else { &exit.states };
        let previous = pass
            .graph
            .import(previous.as_ref().ok_or(Error::bug("a plan with exit checks has buffers for what they compare"))?);
        let launch = exit_begin(pass.shape.rows, self.spec.width, checks.states);
        Ok(pass.graph.launch(launch, &[rows, state, previous, memo])?)
    }

    /// Takes a step, runs the checks, and lets rows exit.
    fn checked_step(&self, pass: &mut Pass<'_>, (checks, exit, exit_params): Leaving<'_>) -> Result<(), Error> {
        self.step(pass)?;
        let (ReadOut { rows: count, outputs }, caps) = (pass.shape, pass.device.caps());
        let sequences = pass.kv.sequences();
        let rows = pass.rows();
        let [memo, values, exit_params] = [&exit.memo, &exit.values, exit_params].map(|it| pass.graph.import(it));
        if let Some(previous) = exit.states.as_ref().filter(|_| checks.states) {
            let (state, previous) = (pass.graph.import(&pass.sites.state), pass.graph.import(previous));
            let launch = exit_state(&caps, count, sequences, self.spec.width);
            pass.graph.launch(launch, &[rows, exit_params, state, previous, memo, values])?;
        }
        if let Some(previous) = exit.read_outs.as_ref().filter(|_| checks.reads_out) {
            self.finish(pass)?;
            let (picked, logits) = (pass.graph.import(&pass.sites.picked), pass.graph.import(&pass.sites.logits));
            let previous = pass.graph.import(previous);
            let launch = exit_readout(&caps, outputs, sequences, self.spec.padded_vocab);
            pass.graph.launch(launch, &[picked, exit_params, logits, previous, memo, values])?;
        }
        if let Some(gate) = self.gate.as_ref().filter(|_| checks.gate) {
            let (state, w) = (pass.graph.import(&pass.sites.state), pass.graph.import(gate));
            let launch = exit_gate(&caps, count, sequences, self.spec.width);
            pass.graph.launch(launch, &[rows, exit_params, state, w, memo, values])?;
        }
        if let Some(kept) = exit.kept.as_ref().filter(|_| checks.rule == Rule::Never) {
            let (state, kept) = (pass.graph.import(&pass.sites.state), pass.graph.import(kept));
            let launch = exit_keep(count, sequences, self.spec.width, false);
            pass.graph.launch(launch, &[rows, exit_params, state, kept, memo])?;
        }
        Ok(pass.graph.launch(exit_leave(count, sequences, checks.rule), &[rows, exit_params, memo])?)
    }
}
