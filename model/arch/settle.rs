//! The recurrence that rows leave by themselves: when they have settled, or when they have had their steps and others have not.

use ruminate_engine::{Buffer, Count};
use ruminate_shaders::exit::{exit_begin, exit_leave, exit_readout, exit_state, exit_wake};

use ruminate_shaders::recur::advance_until;

use super::raven::{Pass, Raven, ReadOut};
use crate::error::Error;
use crate::exit::Checks;

/// What checks work on, whether rows may leave the loop; it outlives the plans too.
pub(crate) struct ExitSites {
    /// What the last check saw: states `[rows, n_embd]`, or log-probabilities `[outputs, vocab]`.
    pub(crate) previous: Buffer,
    /// What is remembered from check to check.
    pub(crate) memo: Buffer,
    /// Values of the first checks `[rows, KEPT_VALUES]`.
    pub(crate) values: Buffer,
}

impl Raven {
    /// Applies the core block with checks: rows that have settled leave, and rest until the loop is over. `loops` are the counts of `Depth::counts`.
    pub(crate) fn iterate_until_settled(
        &self,
        pass: &mut Pass<'_>,
        (checks, exit): (Checks, &ExitSites),
        [free, rounds, last, rest]: [Count; 4],
    ) -> Result<(), Error> {
        let Pass { device, kv, sequences, sites, shape, noise, trace, .. } = *pass;
        let states = !checks.criterion.reads_out();
        let rows = pass.rows();
        let (state, previous) = (pass.graph.import(&sites.state), pass.graph.import(&exit.previous));
        let memo = pass.graph.import(&exit.memo);
        pass.graph.launch(exit_begin(shape.rows, self.config.n_embd, states), &[rows, state, previous, memo])?;
        self.iterate(pass, free)?;
        pass.graph.repeat(rounds, |graph| {
            let pass = &mut Pass { graph, device, kv, sequences, sites, shape, noise, trace };
            self.checked_step(pass, checks, exit)?;
            self.iterate(pass, Count::from(checks.every - 1))
        })?;
        pass.graph.repeat(last, |graph| {
            self.checked_step(&mut Pass { graph, device, kv, sequences, sites, shape, noise, trace }, checks, exit)
        })?;
        self.iterate(pass, rest)?;
        Ok(pass.graph.launch(exit_wake(shape.rows), &[rows])?)
    }

    /// Applies the core block so many times; rows that have then had all the steps of their sequence leave and rest.
    pub(crate) fn iterate_to_the_end(&self, pass: &mut Pass<'_>, steps: Count) -> Result<(), Error> {
        let Pass { device, kv, sequences, sites, shape, noise, trace, .. } = *pass;
        pass.graph.repeat(steps, |graph| {
            let pass = &mut Pass { graph, device, kv, sequences, sites, shape, noise, trace };
            self.step(pass)?;
            let bound = [pass.rows(), pass.graph.import(sequences)];
            Ok(pass.graph.launch(advance_until(shape.rows, kv.sequences()), &bound)?)
        })
    }

    /// A step, a check, and the conclusion.
    fn checked_step(&self, pass: &mut Pass<'_>, checks: Checks, exit: &ExitSites) -> Result<(), Error> {
        self.step(pass)?;
        let Checks { criterion, rule, .. } = checks;
        let (ReadOut { rows: count, outputs }, caps) = (pass.shape, pass.device.caps());
        let rows = pass.rows();
        let [previous, memo, values] = [&exit.previous, &exit.memo, &exit.values].map(|it| pass.graph.import(it));
        if criterion.reads_out() {
            self.finish(pass)?;
            let (picked, logits) = (pass.graph.import(&pass.sites.picked), pass.graph.import(&pass.sites.logits));
            let launch = exit_readout(&caps, outputs, self.config.padded_vocab_size, criterion);
            pass.graph.launch(launch, &[picked, logits, previous, memo, values])?;
        } else {
            let state = pass.graph.import(&pass.sites.state);
            let launch = exit_state(&caps, count, self.config.n_embd, criterion);
            pass.graph.launch(launch, &[rows, state, previous, memo, values])?;
        }
        Ok(pass.graph.launch(exit_leave(count, criterion, checks.threshold(), rule), &[rows, memo])?)
    }
}
