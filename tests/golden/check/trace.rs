//! Intermediate values of the first block, the adapter, the blocks and the norms, at two steps, to locate where a difference starts.
//!
//! Rotated keys are written directly into the cache and have no separate buffer; attention's output covers them.

use std::collections::BTreeMap;

use anyhow::Result;
use ruminate_shaders::attention::cache::Lookup;

use super::Golden;

impl Golden {
    pub(super) fn trace(&mut self) -> Result<()> {
        if self.fixture.value("/trace").is_null() {
            return Ok(());
        }
        let tokens = self.fixture.numbers("/forward/tokens");
        let states = self.fixture.optional("forward/input_states")?;
        let steps = self.fixture.value("/trace/num_steps").as_u64().unwrap_or(2) as u32;
        // Outputs of the authors' modules, by step.
        let mut expected: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for name in self.fixture.names("trace/")? {
            let Some((module, step)) = name.rsplit_once('/') else { continue };
            expected.entry(step.parse()?).or_default().push(module.to_owned());
        }
        let mut session = self.session(Lookup::Full, 1.0)?;
        session.begin(&tokens, steps, super::state_of(states.as_deref()))?;
        let mut found: Vec<(String, Vec<f32>)> = Vec::new();
        for step in 0..steps {
            session.iterate(1)?;
            if step + 1 == steps {
                session.read_out()?;
            }
            for module in expected.get(&step).into_iter().flatten() {
                let name = format!("trace/{module}/{step}");
                if !is_behind(module) && !is_elsewhere(module) {
                    found.push((name, session.trace(&ours(module))?));
                }
            }
        }
        // Modules after the loop are computed once; the norm that occurs twice is numbered.
        for module in expected.values().flatten().filter(|module| is_behind(module)) {
            for step in 0..steps {
                let name = format!("trace/{module}/{step}");
                let last = !self.fixture.has(&format!("trace/{module}/{}", step + 1));
                let ours = if module == "ln_f" && last { "head".to_owned() } else { ours(module) };
                if self.fixture.has(&name) {
                    found.push((name, session.trace(&ours)?));
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.dedup_by(|(a, _), (b, _)| a == b);
        for (name, values) in found {
            self.compare(&name, &values)?;
        }
        Ok(())
    }
}

/// Whether a module's values have no separate buffer: rotated keys, and the gate's logits, which the exit checks compare as probabilities.
fn is_elsewhere(module: &str) -> bool {
    module.ends_with(".k_rope") || module == "early_exit_gate"
}

/// Whether a module comes after the loop.
fn is_behind(module: &str) -> bool {
    module == "ln_f" || module.starts_with("coda.")
}

/// This engine's name for one of the authors' modules.
fn ours(module: &str) -> String {
    if let Some(block) = module.strip_suffix(".heads") {
        return format!("{block}.values");
    }
    for part in ["attn", "mlp"] {
        if let Some(block) = module.strip_suffix(part).filter(|block| block.ends_with('.')) {
            return format!("{block}{part}.proj");
        }
    }
    // The last norm of a Huginn block is the output of the block.
    module.strip_suffix(".norm_4").unwrap_or(module).to_owned()
}
