//! Nanbeige 4.2: a loop over all of its Llama blocks, with a norm after every step.

use serde_json::{Map, Value, json};

use super::llama;
use super::manifest::Manifest;
use super::names::Names;
use super::spec::{OuterNorms, PostNorm, Spec};
use super::stored::Stored;
use super::{Architecture, Published};
use crate::error::Result;
use crate::fields::Fields;

/// The architecture.
pub(super) struct Nanbeige;

/// Options of the authors' code that are off in the published models; not supported.
const OFF: [&str; 7] = [
    "enable_double_loop_split",
    "loop_share_kv",
    "enable_hyper_connection",
    "enable_mhc",
    "enable_depth_attention",
    "emb_neighbor_num",
    "qk_layernorm",
];

impl Architecture for Nanbeige {
    fn name(&self) -> &'static str {
        "nanbeige"
    }

    fn model_type(&self) -> &'static str {
        "nanbeige"
    }

    fn class(&self) -> &'static str {
        "NanbeigeForCausalLM"
    }

    fn parse(&self, fields: &Fields, _: &Stored<'_>) -> Result<Spec> {
        fields.contains("architectures", self.class())?;
        fields.absent(&OFF)?;
        if fields.get("loop_loss_weights").is_some_and(|value| value.as_array().is_none_or(|all| !all.is_empty())) {
            return Err(fields.unsupported("loop_loss_weights", "an empty list, as in the published models"));
        }
        let steps = fields.required("num_loops", 1, 1 << 16)?;
        let spec = llama::spec(self.name(), fields, steps, PostNorm::None)?;
        let once = fields.flag("skip_loop_final_norm")?.unwrap_or(false);
        Ok(Spec { outer_norms: OuterNorms { step: !once, loop_end: false, head: once }, ..spec })
    }

    fn manifest(&self, spec: &Spec) -> Manifest {
        llama::manifest(spec, None)
    }

    fn names(&self, _: &Spec) -> Names {
        llama::NAMES
    }

    fn published(&self) -> &'static [Published] {
        &[Published {
            name: "nanbeige4.2-3b",
            repo: "Nanbeige/Nanbeige4.2-3B",
            about: "4.2 billion parameters, 3.2 of them in the loop, downloads 8.4 GB",
        }]
    }

    fn set(&self, name: &str, text: &str, fields: &mut Map<String, Value>) -> bool {
        super::set(&["num_loops"], &[], (name, text), fields)
            || super::set(&llama::FIELDS, &llama::SHORT, (name, text), fields)
    }

    fn shape(&self, _: &str, given: Map<String, Value>) -> Map<String, Value> {
        let published = json!({
            "architectures": [self.class()],
            "model_type": self.model_type(),
            "vocab_size": 166_144,
            "hidden_size": 3072,
            "intermediate_size": 10_752,
            "num_hidden_layers": 22,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 7e7,
            "num_loops": 2,
            "skip_loop_final_norm": false,
            "max_position_embeddings": 262_144,
            "tie_word_embeddings": false,
            "torch_dtype": "float32",
        });
        llama::shape(published, given)
    }
}
