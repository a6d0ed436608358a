//! Raven, the name in its authors' code: Huginn-0125 (Geiping et al., arXiv 2502.05171) and retrofitted models (arXiv 2511.07384).
//!
//! A retrofitted model keeps the blocks of the model that it was made from: Llama 3.2, TinyLlama or OLMo-2. All have the same `model_type`; the stored tensors
//! distinguish them.

use serde_json::{Map, Value, json};

use super::llama;
use super::manifest::{Builder, Drawn, Layout, Manifest, NormPlace, Part, Role, Section};
use super::names::Names;
use super::spec::{Layers, Norms, OuterNorms, Pairs, PostNorm, Rotary, Spec, SpecialIds, Start, Steps};
use super::stored::Stored;
use super::{Architecture, Published};
use crate::error::Result;
use crate::fields::Fields;

/// The architecture.
pub(super) struct Raven;

impl Architecture for Raven {
    fn name(&self) -> &'static str {
        "huginn"
    }

    fn model_type(&self) -> &'static str {
        "huginn_raven"
    }

    fn class(&self) -> &'static str {
        "RavenForCausalLM"
    }

    fn parse(&self, fields: &Fields, stored: &Stored<'_>) -> Result<Spec> {
        fields.contains("architectures", self.class())?;
        fields.one_of("injection_type", &["linear"])?;
        fields.one_of("state_init", &["like-init"])?;
        fields.one_of("nonlin_name", &["SiLU"])?;
        fields.one_of("norm_class_name", &["RMSNorm_llama", "RMSNorm"])?;
        fields.one_of("mlp_class_name", &["GatedMLP"])?;
        fields.one_of("block_class_name", &["SandwichBlock"])?;
        fields.one_of("architecture_class_name", &["RecurrentGPT"])?;
        if fields.flag("bias")?.unwrap_or(false) {
            return Err(fields.unsupported("bias", "false"));
        }
        fields.absent(&llama::SOFT_CAPS)?;
        fields.absent(&llama::QUANTIZED)?;
        llama::full_attention(fields)?;
        if fields.number("test_time_noise")?.unwrap_or(0.0) != 0.0 {
            return Err(fields.unsupported("test_time_noise", "0"));
        }
        let width = fields.required("n_embd", 1, 1 << 17)?;
        let heads = fields.either("n_heads", "num_attention_heads", 1 << 12)?;
        let kv_heads = fields.kv_heads("n_heads", heads)?;
        let head_dim = fields.head_dim(("n_embd", width), ("n_heads", heads))?;
        let qk_bias = fields.flag("qk_bias")?.unwrap_or(true);
        if fields.get("qk_bias").is_none() && kv_heads != heads {
            return Err(fields.missing(
                "qk_bias",
                "true or false; if absent it counts as true, which requires as many key heads as query heads",
            ));
        }
        if qk_bias && kv_heads != heads {
            let supported =
                "the number of n_heads if qk_bias is true, because the bias has as many key heads as query heads";
            return Err(fields.unsupported("num_key_value_heads", supported));
        }
        let vocab = fields.required("vocab_size", 1, 1 << 22)?;
        let kind = Kind::of(fields, stored, qk_bias);
        let tied_head = match (fields.flag("tie_embeddings")?, fields.flag("tie_word_embeddings")?) {
            (Some(a), Some(b)) if a != b && kind == Kind::Huginn => {
                return Err(fields.unsupported("tie_word_embeddings", &format!("{a}, the value of tie_embeddings")));
            }
            (Some(tied), _) | (None, Some(tied)) => tied,
            // Huginn's head is tied; the head of a retrofitted model need not be.
            (None, None) => kind == Kind::Huginn || stored.has("lm_head.weight") == Some(false),
        };
        let init = fields.inner("init_values")?;
        let huginn = kind == Kind::Huginn;
        let rotary = if huginn {
            if fields.get("rope_scaling").is_some() {
                return Err(fields.unsupported("rope_scaling", "null"));
            }
            let base = fields.positive("rope_base")?.ok_or_else(|| fields.missing("rope_base", "a number above 0"))?;
            Rotary { base, pairs: Pairs::Adjacent, scaling: None }
        } else {
            llama::rotary(fields, Pairs::Halves)?
        };
        let [std, embed_scale] = if huginn {
            [(2.0 / (5.0 * f64::from(width))).sqrt(), f64::from(width).sqrt()]
        } else {
            // Huginn's standard deviation, whatever the width.
            [(2.0_f64 / (5.0 * 5280.0)).sqrt(), 1.0]
        };
        let context = if huginn { "block_size" } else { "max_position_embeddings" };
        Ok(Spec {
            architecture: self.name(),
            width,
            heads,
            kv_heads,
            head_dim,
            hidden: fields.required("intermediate_size", 1, 1 << 20)?,
            vocab,
            padded_vocab: fields.whole("padded_vocab_size", vocab, 1 << 22)?.unwrap_or(vocab),
            context: fields.required(context, 1, 1 << 20)?,
            layers: Layers {
                before: fields.required("n_layers_in_prelude", 0, 1024)?,
                core: fields.required("n_layers_in_recurrent_block", 1, 1024)?,
                after: fields.required("n_layers_in_coda", 0, 1024)?,
            },
            steps: Steps { default: fields.required("mean_recurrence", 1, 1 << 16)?, most_useful: None },
            start: Start::Drawn { std: init.positive("std")?.unwrap_or(std) },
            adapter: true,
            norms: match kind {
                Kind::Huginn => Norms { pre: true, post: PostNorm::Sum },
                Kind::Llama => Norms { pre: true, post: PostNorm::None },
                Kind::Olmo => Norms { pre: false, post: PostNorm::Output },
            },
            outer_norms: OuterNorms { step: false, loop_end: huginn, head: true },
            norm_eps: fields.positive("norm_eps")?.ok_or_else(|| fields.missing("norm_eps", "a number above 0"))?,
            qk_bias,
            qk_norm: kind == Kind::Olmo,
            rotary,
            gate: false,
            tied_head,
            embed_scale: init.positive("embed_scale")?.unwrap_or(embed_scale),
            special_ids: if huginn { SpecialIds::Files } else { SpecialIds::Tokenizer },
            stops: &[],
            bos: fields.token("bos_token_id")?,
            eos: fields.tokens("eos_token_id")?,
            pad: fields.token("pad_token_id")?,
            torch_dtype: fields.text("torch_dtype"),
            notes: Vec::new(),
        })
    }

    fn manifest(&self, spec: &Spec) -> Manifest {
        let (n, hidden) = (spec.width, spec.hidden);
        let mut all = Builder::new(spec);
        if spec.rotary.pairs == Pairs::Adjacent {
            all.one(Role::RotaryTable, "freqs_cis", &[1, spec.context, 1, spec.head_dim / 2, 2], Drawn::Computed);
            all.optional();
        }
        all.embedding("transformer.wte.weight", "lm_head.weight");
        let names = self.names(spec);
        for section in Section::ALL {
            if section == Section::Core {
                let shape = vec![("transformer.adapter.weight".to_owned(), vec![n, 2 * n])];
                all.stacked(Role::Adapter, shape, Layout::HALVES, Drawn::Inner);
            }
            for layer in 0..section.layers(spec) {
                let role = |part| Role::Block(section, layer, part);
                let site = |part: &str| format!("transformer.{}.{part}", names.block(section, layer));
                let norm = |all: &mut Builder<'_>, place| {
                    if let Some(name) = names.norm(place) {
                        all.one(role(Part::Norm(place)), site(&format!("{name}.weight")), &[n], Drawn::Ones);
                    }
                };
                norm(&mut all, NormPlace::PreAttention);
                if spec.qk_bias {
                    all.one(role(Part::QkBias), site("attn.qk_bias"), &[2, 1, spec.heads, spec.head_dim], Drawn::Zeros);
                }
                if spec.qk_norm {
                    let [q, k] = [spec.heads, spec.kv_heads].map(|heads| heads * spec.head_dim);
                    let both = [("attn.q_norm.weight", q), ("attn.k_norm.weight", k)];
                    let both = both.map(|(name, width)| (site(name), vec![width])).to_vec();
                    all.stacked(role(Part::QkNorm), both, Layout::heads(spec), Drawn::Ones);
                }
                let qkv = vec![(site("attn.Wqkv.weight"), vec![spec.qkv_rows(), n])];
                all.stacked(role(Part::Qkv), qkv, Layout::heads(spec), Drawn::Inner);
                all.one(role(Part::Out), site("attn.proj.weight"), &[n, spec.heads * spec.head_dim], Drawn::Back);
                norm(&mut all, NormPlace::PostAttention);
                norm(&mut all, NormPlace::PreMlp);
                let fc = vec![(site("mlp.fc.weight"), vec![2 * hidden, n])];
                all.stacked(role(Part::GateUp), fc, Layout::gate_up(2 * hidden), Drawn::Inner);
                all.one(role(Part::Down), site("mlp.proj.weight"), &[n, hidden], Drawn::Back);
                norm(&mut all, NormPlace::PostMlp);
            }
        }
        all.one(Role::FinalNorm, "transformer.ln_f.weight", &[n], Drawn::Ones);
        all.head("lm_head.weight");
        all.finish()
    }

    fn names(&self, spec: &Spec) -> Names {
        let (first, second) = (Some("norm_1"), Some("norm_2"));
        Names {
            sections: ["prelude", "core_block", "coda"],
            norms: match (spec.norms.pre, spec.norms.post) {
                (true, PostNorm::None) => [first, None, second, None],
                (false, _) => [None, first, None, second],
                (true, _) => [first, second, Some("norm_3"), Some("norm_4")],
            },
            attention: "attn",
            qkv: "attn.Wqkv",
            projections: None,
            qk_norms: spec.qk_norm.then_some(["attn.q_norm", "attn.k_norm"]),
            out: "attn.proj",
            sums: ["attn.sum", "mlp.sum"],
            gate_up: "mlp.fc",
            gate_and_up: None,
            hidden: "mlp.hidden",
            down: "mlp.proj",
            adapter: "adapter",
            final_norm: "ln_f",
        }
    }

    fn published(&self) -> &'static [Published] {
        &[
            Published {
                name: "huginn-0125",
                repo: "tomg-group-umd/huginn-0125",
                about: "3.5 billion parameters, downloads 14.3 GB (https://arxiv.org/abs/2502.05171)",
            },
            Published {
                name: "recurrent-llama-3.2-1b",
                repo: "smcleish/Recurrent-Llama-3.2-train-recurrence-32",
                about: "1.4 billion parameters, downloads 5.5 GB (https://arxiv.org/abs/2511.07384)",
            },
            Published {
                name: "recurrent-tinyllama-1.1b",
                repo: "smcleish/Recurrent-TinyLlama-3T-train-recurrence-32",
                about: "0.8 billion parameters, downloads 3.4 GB (https://arxiv.org/abs/2511.07384)",
            },
        ]
    }

    fn set(&self, name: &str, text: &str, fields: &mut Map<String, Value>) -> bool {
        if name == "layers" {
            let counts: Vec<u32> = text.split('/').filter_map(|count| count.parse().ok()).collect();
            let names = ["n_layers_in_prelude", "n_layers_in_recurrent_block", "n_layers_in_coda"];
            fields.extend(names.iter().zip(&counts).map(|(name, count)| ((*name).to_owned(), (*count).into())));
            return counts.len() == names.len();
        }
        super::set(&FIELDS, &SHORT, (name, text), fields)
    }

    fn shape(&self, preset: &str, given: Map<String, Value>) -> Map<String, Value> {
        if preset != "huginn-0125" {
            return self.retrofitted(preset, given);
        }
        let width = given.get("n_embd").and_then(Value::as_u64).unwrap_or(5280);
        let mut fields = given;
        let mut default = |name: &str, value: Value| {
            fields.entry(name).or_insert(value);
        };
        default("n_embd", width.into());
        default("n_heads", (width / 96).max(1).into());
        default("intermediate_size", (width * 17_920 / 5280).next_multiple_of(32).into());
        for (name, value) in [
            ("vocab_size", 65_536),
            ("n_layers_in_prelude", 2),
            ("n_layers_in_recurrent_block", 4),
            ("n_layers_in_coda", 2),
            ("mean_recurrence", 32),
            ("block_size", 4096),
            ("rope_base", 50_000),
        ] {
            default(name, value.into());
        }
        for (name, value) in [("norm_eps", json!(1e-6)), ("qk_bias", json!(true)), ("tie_embeddings", json!(true))] {
            default(name, value);
        }
        let count = |name: &str| fields.get(name).and_then(Value::as_f64).unwrap_or(1.0);
        let depth = count("n_layers_in_prelude")
            + count("n_layers_in_coda")
            + count("n_layers_in_recurrent_block") * count("mean_recurrence");
        let width = width.max(1) as f64;
        let std = (2.0 / (5.0 * width)).sqrt();
        let out_std = std / (2.0 * depth.max(1.0)).sqrt();
        let fixed = json!({
            "architectures": [self.class()],
            "model_type": self.model_type(),
            "bias": false,
            "injection_type": "linear",
            "state_init": "like-init",
            "block_class_name": "SandwichBlock",
            "mlp_class_name": "GatedMLP",
            "nonlin_name": "SiLU",
            "norm_class_name": "RMSNorm_llama",
            "init_values": {"std": std, "out_proj": out_std, "embedding": std, "embed_scale": width.sqrt()},
            "test_time_noise": 0,
            "torch_dtype": "float32",
        });
        if let Value::Object(fixed) = fixed {
            fields.extend(fixed);
        }
        let vocab = fields.get("vocab_size").cloned().unwrap_or_default();
        fields.entry("padded_vocab_size").or_insert(vocab);
        fields
    }
}

/// Kind of blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Four norms, with post-norms of the sums.
    Huginn,
    /// Two norms, before the sublayers.
    Llama,
    /// Two norms, of the sublayers' outputs, and norms of queries and keys.
    Olmo,
}

impl Kind {
    fn of(fields: &Fields, stored: &Stored<'_>, qk_bias: bool) -> Self {
        let has = |part: &str| stored.has(&format!("transformer.core_block.0.{part}"));
        let retrofitted = match has("norm_3.weight") {
            Some(true) => false,
            Some(false) => !qk_bias && has("norm_2.weight") == Some(true),
            None => !qk_bias && (fields.get("rope_theta").is_some() || fields.get("rope_parameters").is_some()),
        };
        match (retrofitted, has("attn.q_norm.weight")) {
            (false, _) => Self::Huginn,
            (true, Some(true)) => Self::Olmo,
            (true, _) => Self::Llama,
        }
    }
}

impl Raven {
    /// Configuration of a published retrofitted model with the `given` fields replaced.
    fn retrofitted(&self, preset: &str, given: Map<String, Value>) -> Map<String, Value> {
        let tiny = preset == "recurrent-tinyllama-1.1b";
        let mut published = json!({
            "architectures": [self.class()],
            "model_type": self.model_type(),
            "block_class_name": "SandwichBlock",
            "n_embd": 2048,
            "n_heads": 32,
            "num_key_value_heads": if tiny { 4 } else { 8 },
            "intermediate_size": if tiny { 5632 } else { 8192 },
            "vocab_size": if tiny { 32_000 } else { 128_256 },
            "n_layers_in_prelude": 4,
            "n_layers_in_recurrent_block": if tiny { 8 } else { 6 },
            "n_layers_in_coda": 4,
            "mean_recurrence": 32,
            "max_position_embeddings": if tiny { 2048 } else { 131_072 },
            "norm_eps": 1e-5,
            "qk_bias": false,
            "rope_theta": if tiny { 1e4 } else { 5e5 },
            "tie_embeddings": false,
            "init_values": {"std": (2.0_f64 / (5.0 * 5280.0)).sqrt(), "embed_scale": 1.0},
            "torch_dtype": "float32",
        });
        if !tiny {
            published["rope_scaling"] = json!({
                "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            });
        }
        let Value::Object(mut fields) = published else { return given };
        fields.extend(given);
        let vocab = fields.get("vocab_size").cloned().unwrap_or_default();
        fields.entry("padded_vocab_size").or_insert(vocab);
        fields
    }
}

/// Shape fields that can be set.
const FIELDS: [&str; 18] = [
    "n_embd",
    "n_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "padded_vocab_size",
    "n_layers_in_prelude",
    "n_layers_in_recurrent_block",
    "n_layers_in_coda",
    "mean_recurrence",
    "rope_base",
    "rope_theta",
    "block_size",
    "max_position_embeddings",
    "norm_eps",
    "qk_bias",
    "tie_embeddings",
];

/// Short names of shape fields.
const SHORT: [(&str, &str); 3] = [("heads", "n_heads"), ("hidden", "intermediate_size"), ("vocab", "vocab_size")];
