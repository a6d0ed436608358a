//! Every intermediate of the first prelude block, the adapter, the blocks and the norms, at two steps: where a difference starts.
//!
//! The rotated keys go straight into the cache and have no buffer of their own; attention's output stands for them.

use anyhow::Result;
use ruminate::State;
use ruminate_shaders::attention::cache::Lookup;

use super::Golden;

impl Golden {
    pub(super) fn trace(&mut self) -> Result<()> {
        if self.fixture.value("/trace").is_null() {
            return Ok(());
        }
        let tokens = self.fixture.numbers("/forward/tokens");
        let states = self.fixture.tensor("forward/input_states")?;
        let config = self.model.config().clone();
        let hidden = config.intermediate_size;
        let mut session = self.session(Lookup::Full, 1.0)?;
        session.begin(&tokens, 2, State::Given(&states))?;
        let block = "prelude.0";
        let last = config.n_layers_in_prelude == 1;
        let mut found: Vec<(String, Vec<f32>)> = Vec::new();
        for (theirs, ours) in [
            ("norm_1", "norm_1"),
            ("norm_2", "norm_2"),
            ("norm_3", "norm_3"),
            ("attn.proj", "attn.proj"),
            ("attn", "attn.proj"),
            ("mlp.proj", "mlp.proj"),
            ("mlp", "mlp.proj"),
        ] {
            found.push((format!("{block}.{theirs}/0"), session.trace(&format!("{block}.{ours}"))?));
        }
        let output = if last { session.embeddings()? } else { session.trace(block)? };
        found.push((format!("{block}.norm_4/0"), output.clone()));
        found.push((format!("{block}/0"), output));
        found.push((format!("{block}.attn.Wqkv/0"), session.trace(&format!("{block}.attn.Wqkv"))?));
        let fc = session.trace(&format!("{block}.mlp.fc"))?;
        let half = |row: &[f32], first: usize| row.iter().skip(first).step_by(2).copied().collect::<Vec<_>>();
        let fc = fc.chunks(2 * hidden as usize).flat_map(|row| [half(row, 0), half(row, 1)].concat()).collect();
        found.push((format!("{block}.mlp.fc/0"), fc));
        let q = session.trace(&format!("{block}.attn.q_rope"))?;
        found.push((format!("{block}.attn.q_rope/0"), q));

        let layers = config.n_layers_in_recurrent_block;
        for step in 0..2 {
            session.iterate(1)?;
            found.push((format!("adapter/{step}"), session.trace("adapter")?));
            for layer in 0..layers {
                let name = format!("core_block.{layer}");
                let values = if layer + 1 == layers { session.states()? } else { session.trace(&name)? };
                found.push((format!("{name}/{step}"), values));
            }
        }
        let outputs = session.read_out()?;
        found.push(("ln_f/0".to_owned(), outputs.latents));
        found.push(("ln_f/1".to_owned(), outputs.head));
        for layer in 0..config.n_layers_in_coda {
            found.push((format!("coda.{layer}/0"), session.trace(&format!("coda.{layer}"))?));
        }
        for (name, values) in found {
            let name = format!("trace/{name}");
            if self.fixture.has(&name) {
                self.compare(&name, &values)?;
            }
        }
        Ok(())
    }
}
