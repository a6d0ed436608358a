//! Complete forward passes from given states: logits, latents, embeddings, every step, statistics, loss.

use anyhow::Result;
use ruminate::State;
use ruminate_shaders::attention::cache::Lookup;

use super::Golden;

impl Golden {
    pub(super) fn forward(&mut self) -> Result<()> {
        let tokens = self.fixture.numbers("/forward/tokens");
        let states = self.fixture.optional("forward/input_states")?;
        let state = || super::state_of(states.as_deref());
        let mut session = self.session(Lookup::Full, 1.0)?;
        for steps in self.fixture.numbers("/forward/num_steps") {
            session.rewind(0)?;
            session.begin(&tokens, steps, state())?;
            session.iterate(steps)?;
            let outputs = session.read_out()?;
            if steps == self.fixture.numbers("/forward/num_steps")[0] {
                self.compare("forward/embeds", &session.embeddings()?)?;
            }
            self.compare(&format!("forward/logits_r{steps}"), &outputs.logits)?;
            self.compare(&format!("forward/latent_r{steps}"), &outputs.latents)?;
            let head = format!("forward/head_r{steps}");
            if self.fixture.has(&head) {
                self.compare(&head, &outputs.head)?;
            }
            if self.fixture.has(&format!("forward/stats_entropy_r{steps}")) {
                self.statistics(steps, &outputs)?;
            }
            self.loss(steps, &outputs.logits);

            session.rewind(0)?;
            let logits = session.forward(&tokens, steps, state(), true)?;
            let expected = self.fixture.tensor(&format!("forward/logits_r{steps}"))?;
            let bound = self.fixture.bound(&format!("forward/logits_r{steps}"), &expected);
            self.compare_with(&format!("forward/logits_r{steps}, in one plan"), &logits, &expected, bound);
        }

        if self.fixture.has("forward/steps") {
            session.rewind(0)?;
            let width = self.model.spec().width as usize;
            let count = self.fixture.tensor("forward/steps")?.len() / (tokens.len() * width);
            session.begin(&tokens, count as u32, state())?;
            let mut steps = Vec::new();
            for _ in 0..count {
                session.iterate(1)?;
                steps.extend(session.states()?);
            }
            self.compare("forward/steps", &steps)?;
        }

        let zero_steps = self.fixture.value("/forward/zero_num_steps").as_u64().unwrap_or(8) as u32;
        let zero = format!("forward/zero_logits_r{zero_steps}");
        if self.fixture.has(&zero) {
            let mut session = self.session(Lookup::Full, 0.0)?;
            let logits = session.forward(&tokens, zero_steps, State::Seeded, true)?;
            self.compare(&zero, &logits)?;
        }
        self.long()?;
        Ok(())
    }

    /// Compares the last rows of a long prompt, from zero states.
    fn long(&mut self) -> Result<()> {
        let name = "forward/long_logits";
        let Some(expected) = self.fixture.optional(name)? else { return Ok(()) };
        let tokens = self.fixture.numbers("/forward/long_tokens");
        let steps = self.fixture.value("/forward/long_num_steps").as_u64().unwrap_or(1) as u32;
        let mut session = self.session(Lookup::Full, 0.0)?;
        let logits = session.forward(&tokens, steps, State::Seeded, true)?;
        self.compare(name, &logits[logits.len() - expected.len()..])
    }

    fn statistics(&mut self, steps: u32, outputs: &ruminate::Outputs) -> Result<()> {
        let rows = outputs.statistics();
        let entropy: Vec<f32> = rows.iter().map(|row| row.entropy).collect();
        let residual: Vec<f32> = rows.iter().map(|row| row.residual_diff).collect();
        let relative: Vec<f32> = rows.iter().map(|row| row.rel_residual).collect();
        for (name, found) in [("entropy", entropy), ("residual_diff", residual), ("rel_residual", relative)] {
            self.compare(&format!("forward/stats_{name}_r{steps}"), &found)?;
        }
        Ok(())
    }

    /// Compares the authors' loss: mean cross entropy over the non-negative labels, without a shift.
    fn loss(&mut self, steps: u32, logits: &[f32]) {
        let Some(expected) = self.fixture.value(&format!("/forward/loss_r{steps}")).as_f64() else { return };
        let vocab = self.model.spec().padded_vocab as usize;
        let labels = self.fixture.value("/forward/labels").as_array().cloned().unwrap_or_default();
        let labeled = logits.chunks(vocab).zip(&labels).filter_map(|(row, label)| Some((row, label.as_u64()?)));
        let losses: Vec<f64> = labeled
            .map(|(row, label)| -f64::from(ruminate::statistics::log_probability(row, label as usize)))
            .collect();
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        self.compare_with(&format!("forward/loss_r{steps}"), &[loss as f32], &[expected as f32], 1e-4 * expected);
    }
}
