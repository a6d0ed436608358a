//! Configuration fields and tensor names of Llama, for models that loop over all layers.

use serde_json::{Map, Value};

use super::manifest::{Builder, Drawn, Layout, Manifest, NormPlace, Part, Role, Section};
use super::names::Names;
use super::spec::{Layers, Llama3Scaling, Norms, OuterNorms, Pairs, PostNorm, Rotary, Spec, Start, Steps};
use crate::error::Result;
use crate::fields::Fields;

/// Caps on logits, as in Gemma; not supported.
pub(super) const SOFT_CAPS: [&str; 2] = ["attn_logit_softcapping", "final_logit_softcapping"];

/// Weights in a quantized format of another program; not supported.
pub(super) const QUANTIZED: [&str; 1] = ["quantization_config"];

/// Rotary position embedding of a configuration: `rope_theta` and `rope_scaling`, or both in `rope_parameters`.
pub(super) fn rotary(fields: &Fields, pairs: Pairs) -> Result<Rotary> {
    let together = fields.inner("rope_parameters")?;
    let base = match fields.positive("rope_theta")? {
        Some(base) => Some(base),
        None => together.positive("rope_theta")?,
    };
    let base = base.ok_or_else(|| fields.missing("rope_theta", "a number above 0"))?;
    if let Some(other) = together.positive("rope_theta")?.filter(|other| *other != base) {
        return Err(together.unsupported("rope_theta", &format!("{base}, the value of rope_theta, not {other}")));
    }
    let scaled = fields.inner("rope_scaling")?;
    for place in [fields, &together, &scaled] {
        if place.number("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
            return Err(place.unsupported("partial_rotary_factor", "1"));
        }
    }
    let [scaling, second] = [llama3(&scaled)?, llama3(&together)?];
    match (scaling, second) {
        (Some(a), Some(b)) if a != b => Err(fields.unsupported("rope_parameters", "the same scaling as rope_scaling")),
        _ => Ok(Rotary { base, pairs, scaling: scaling.or(second) }),
    }
}

fn llama3(scaling: &Fields) -> Result<Option<Llama3Scaling>> {
    let named = if scaling.get("rope_type").is_some() { "rope_type" } else { "type" };
    match scaling.text(named).as_deref() {
        None if scaling.get(named).is_none() && scaling.get("factor").is_none() => return Ok(None),
        Some("default") => return Ok(None),
        Some("llama3") => {}
        _ => return Err(scaling.unsupported(named, "llama3, default, or no scaling")),
    }
    let number = |field| scaling.positive(field)?.ok_or_else(|| scaling.missing(field, "a number above 0"));
    let found = Llama3Scaling {
        factor: number("factor")?,
        low_freq_factor: number("low_freq_factor")?,
        high_freq_factor: number("high_freq_factor")?,
        original_context: number("original_max_position_embeddings")?,
    };
    if found.high_freq_factor <= found.low_freq_factor {
        let supported = format!("a number above low_freq_factor, {}", found.low_freq_factor);
        return Err(scaling.unsupported("high_freq_factor", &supported));
    }
    Ok(Some(found))
}

/// Checks that every position attends to all earlier ones.
pub(super) fn full_attention(fields: &Fields) -> Result<()> {
    let used = fields.flag("use_sliding_window")?;
    if used == Some(true) {
        return Err(fields.unsupported("use_sliding_window", "false; every position attends to all earlier positions"));
    }
    if used.is_none() && fields.get("sliding_window").is_some() {
        return Err(fields.unsupported("sliding_window", "null, or a number with use_sliding_window false"));
    }
    if let Some(types) = fields.get("layer_types") {
        let full = |kind: &Value| kind == "full_attention";
        if !types.as_array().is_some_and(|types| types.iter().all(full)) {
            return Err(fields.unsupported("layer_types", "a list of \"full_attention\""));
        }
    }
    Ok(())
}

/// Specification from the fields that these models share. `steps`: number of loops in training.
pub(super) fn spec(architecture: &'static str, fields: &Fields, steps: u32, post: PostNorm) -> Result<Spec> {
    fields.one_of("hidden_act", &["silu"])?;
    fields.absent(&["attention_bias", "mlp_bias"])?;
    fields.absent(&SOFT_CAPS)?;
    fields.absent(&QUANTIZED)?;
    full_attention(fields)?;
    let width = fields.required("hidden_size", 1, 1 << 17)?;
    let heads = fields.required("num_attention_heads", 1, 1 << 12)?;
    let kv_heads = fields.kv_heads("num_attention_heads", heads)?;
    let vocab = fields.required("vocab_size", 1, 1 << 22)?;
    let eps = fields.positive("rms_norm_eps")?.ok_or_else(|| fields.missing("rms_norm_eps", "a number above 0"))?;
    Ok(Spec {
        architecture,
        width,
        heads,
        kv_heads,
        head_dim: fields.head_dim(("hidden_size", width), ("num_attention_heads", heads))?,
        hidden: fields.required("intermediate_size", 1, 1 << 20)?,
        vocab,
        padded_vocab: vocab,
        context: fields.required("max_position_embeddings", 1, 1 << 20)?,
        layers: Layers { before: 0, core: fields.required("num_hidden_layers", 1, 1024)?, after: 0 },
        steps: Steps { default: steps, most_useful: Some(steps) },
        start: Start::Embedding,
        adapter: false,
        norms: Norms { pre: true, post },
        outer_norms: OuterNorms { step: true, loop_end: false, head: false },
        norm_eps: eps,
        qk_bias: false,
        qk_norm: false,
        rotary: rotary(fields, Pairs::Halves)?,
        gate: false,
        tied_head: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        embed_scale: 1.0,
        special_ids: super::spec::SpecialIds::Files,
        stops: &[],
        bos: fields.token("bos_token_id")?,
        eos: fields.tokens("eos_token_id")?,
        pad: fields.token("pad_token_id")?,
        torch_dtype: fields.text("torch_dtype").or_else(|| fields.text("dtype")),
        notes: Vec::new(),
    })
}

/// Manifest of a model; `gate` names the exit gate, if the architecture has one.
pub(super) fn manifest(spec: &Spec, gate: Option<&str>) -> Manifest {
    let (n, hidden) = (spec.width, spec.hidden);
    let [q, kv] = [spec.heads, spec.kv_heads].map(|heads| heads * spec.head_dim);
    let mut all = Builder::new(spec);
    all.embedding("model.embed_tokens.weight", "lm_head.weight");
    let names = spec.names();
    for layer in 0..spec.layers.core {
        let role = |part| Role::Block(Section::Core, layer, part);
        let site = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let of = |part: &str, rows| (site(part), vec![rows, n]);
        let qkv = [("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)];
        let qkv = qkv.map(|(name, rows)| of(name, rows)).to_vec();
        all.stacked(role(Part::Qkv), qkv, Layout::heads(spec), Drawn::Inner);
        all.one(role(Part::Out), site(names.out), &[n, q], Drawn::Back);
        let gate_up = vec![of("mlp.gate_proj", hidden), of("mlp.up_proj", hidden)];
        all.stacked(role(Part::GateUp), gate_up, Layout::gate_up(2 * hidden), Drawn::Inner);
        all.one(role(Part::Down), site(names.down), &[n, hidden], Drawn::Back);
        let places = [NormPlace::PreAttention, NormPlace::PostAttention, NormPlace::PreMlp, NormPlace::PostMlp];
        for (place, name) in places.into_iter().filter_map(|place| Some((place, names.norm(place)?))) {
            all.one(role(Part::Norm(place)), site(name), &[n], Drawn::Ones);
        }
    }
    all.one(Role::FinalNorm, "model.norm.weight", &[n], Drawn::Ones);
    if let Some(gate) = gate.filter(|_| spec.gate) {
        all.one(Role::Gate, format!("{gate}.weight"), &[1, n], Drawn::Zeros);
        all.one(Role::GateBias, format!("{gate}.bias"), &[1], Drawn::Zeros);
    }
    all.head("lm_head.weight");
    all.finish()
}

/// Names of intermediate results.
pub(super) const NAMES: Names = Names {
    sections: ["", "layers", ""],
    norms: [Some("input_layernorm"), None, Some("post_attention_layernorm"), None],
    attention: "self_attn",
    qkv: "self_attn.qkv",
    projections: Some(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    qk_norms: None,
    out: "self_attn.o_proj",
    sums: ["attn_residual", "mlp.sum"],
    gate_up: "mlp.gate_up",
    gate_and_up: Some(["mlp.gate_proj", "mlp.up_proj"]),
    hidden: "mlp.hidden",
    down: "mlp.down_proj",
    adapter: "",
    final_norm: "norm",
};

/// Short names of shape fields.
pub(super) const SHORT: [(&str, &str); 4] = [
    ("heads", "num_attention_heads"),
    ("hidden", "intermediate_size"),
    ("vocab", "vocab_size"),
    ("layers", "num_hidden_layers"),
];

/// Shape fields that can be set.
pub(super) const FIELDS: [&str; 11] = [
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "num_hidden_layers",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "tie_word_embeddings",
];

/// Published configuration with the `given` fields replaced. If only the width changes, the head width and the number of query heads per key head stay.
pub(super) fn shape(published: Value, given: Map<String, Value>) -> Map<String, Value> {
    let Value::Object(mut fields) = published else { return given };
    let number = |fields: &Map<String, Value>, name: &str| fields.get(name).and_then(Value::as_u64);
    if let (Some(width), Some(before), Some(heads), Some(kv_heads), Some(hidden)) = (
        number(&given, "hidden_size"),
        number(&fields, "hidden_size"),
        number(&fields, "num_attention_heads"),
        number(&fields, "num_key_value_heads"),
        number(&fields, "intermediate_size"),
    ) {
        let groups = heads / kv_heads.max(1);
        let kv_heads = (heads * width / before.max(1) / groups.max(1)).max(1);
        fields.insert("num_key_value_heads".to_owned(), kv_heads.into());
        fields.insert("num_attention_heads".to_owned(), (kv_heads * groups).into());
        let hidden = (width * hidden / before.max(1)).next_multiple_of(32).max(32);
        fields.insert("intermediate_size".to_owned(), hidden.into());
    }
    if let (Some(heads), None) = (number(&given, "num_attention_heads"), given.get("num_key_value_heads")) {
        let kv_heads = number(&fields, "num_key_value_heads").unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            fields.insert("num_key_value_heads".to_owned(), heads.into());
        }
    }
    fields.extend(given);
    fields
}
