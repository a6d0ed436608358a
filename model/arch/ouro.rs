//! Ouro (arXiv 2510.25741): a loop over all layers, four norms per block, a norm after every step, and a learned exit gate.

use serde_json::{Map, Value, json};

use super::llama;
use super::manifest::Manifest;
use super::names::Names;
use super::spec::{PostNorm, Spec};
use super::stored::Stored;
use super::{Architecture, Published};
use crate::error::Result;
use crate::fields::Fields;

/// The architecture.
pub(super) struct Ouro;

/// Tensor prefix of the exit gate, which has weights and a bias.
const GATE: &str = "model.early_exit_gate";

impl Architecture for Ouro {
    fn name(&self) -> &'static str {
        "ouro"
    }

    fn model_type(&self) -> &'static str {
        "ouro"
    }

    fn class(&self) -> &'static str {
        "OuroForCausalLM"
    }

    fn parse(&self, fields: &Fields, stored: &Stored<'_>) -> Result<Spec> {
        fields.contains("architectures", self.class())?;
        let steps = fields.required("total_ut_steps", 1, 1 << 16)?;
        let has = |part: &str| stored.has(&format!("{GATE}.{part}")) != Some(false);
        let mut notes = Vec::new();
        if let Some(threshold) = fields.number("early_exit_threshold")?.filter(|threshold| *threshold < 1.0) {
            notes.push(format!(
                "config.json sets early_exit_threshold to {threshold}; the exit criterion `gate` with this threshold applies it, \
                 otherwise all steps are taken"
            ));
        }
        if let Some(step) = fields.whole("early_exit_step", 0, steps - 1)? {
            notes.push(format!(
                "config.json sets early_exit_step to {step}: the authors' code reads out the state after step {}; set the steps \
                 to {} for the same tokens, otherwise all steps are taken",
                step + 1,
                step + 1
            ));
        }
        if fields.flag("use_weighted_exit")?.unwrap_or(false) {
            notes.push(
                "use_weighted_exit in config.json is ignored: the state of one step is read out, not a mixture"
                    .to_owned(),
            );
        }
        Ok(Spec {
            notes,
            // If half of the gate is missing, the checkpoint is damaged, which loading reports.
            gate: has("weight") || has("bias"),
            // The chat format ends messages with a token that the configuration does not name.
            stops: &["<|endoftext|>", "<|im_end|>"],
            ..llama::spec(self.name(), fields, steps, PostNorm::Output)?
        })
    }

    fn manifest(&self, spec: &Spec) -> Manifest {
        llama::manifest(spec, Some(GATE))
    }

    fn names(&self, _: &Spec) -> Names {
        let norms = ["input_layernorm", "input_layernorm_2", "post_attention_layernorm", "post_attention_layernorm_2"];
        Names { norms: norms.map(Some), ..llama::NAMES }
    }

    fn published(&self) -> &'static [Published] {
        &[
            Published {
                name: "ouro-1.4b",
                repo: "ByteDance/Ouro-1.4B",
                about: "1.4 billion parameters, downloads 2.9 GB (https://arxiv.org/abs/2510.25741)",
            },
            Published {
                name: "ouro-1.4b-thinking",
                repo: "ByteDance/Ouro-1.4B-Thinking",
                about: "the same size, tuned to reason before it answers",
            },
            Published {
                name: "ouro-2.6b",
                repo: "ByteDance/Ouro-2.6B",
                about: "2.7 billion parameters, downloads 5.3 GB (https://arxiv.org/abs/2510.25741)",
            },
            Published {
                name: "ouro-2.6b-thinking",
                repo: "ByteDance/Ouro-2.6B-Thinking",
                about: "the same size, tuned to reason before it answers",
            },
        ]
    }

    fn set(&self, name: &str, text: &str, fields: &mut Map<String, Value>) -> bool {
        super::set(&["total_ut_steps"], &[], (name, text), fields)
            || super::set(&llama::FIELDS, &llama::SHORT, (name, text), fields)
    }

    fn shape(&self, preset: &str, given: Map<String, Value>) -> Map<String, Value> {
        let published = json!({
            "architectures": [self.class()],
            "model_type": self.model_type(),
            "vocab_size": 49_152,
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "num_hidden_layers": if preset.starts_with("ouro-2.6b") { 48 } else { 24 },
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "head_dim": 128,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "total_ut_steps": 4,
            "early_exit_threshold": 1.0,
            "max_position_embeddings": 65_536,
            "tie_word_embeddings": false,
            "use_sliding_window": false,
            "torch_dtype": "float32",
        });
        llama::shape(published, given)
    }
}
