//! Intermediates of a pass: their names, which are those of the modules in the checkpoint, and their widths.

use crate::config::Config;

/// Parts of a block that the step-wise calls keep.
const PARTS: [&str; 12] = [
    "norm_1",
    "attn.Wqkv",
    "attn.q_rope",
    "attn.values",
    "attn.proj",
    "attn.sum",
    "norm_2",
    "norm_3",
    "mlp.fc",
    "mlp.hidden",
    "mlp.proj",
    "mlp.sum",
];

/// The parts of a model that have blocks, and how many.
const fn sections(config: &Config) -> [(&'static str, u32); 3] {
    [
        ("prelude", config.n_layers_in_prelude),
        ("core_block", config.n_layers_in_recurrent_block),
        ("coda", config.n_layers_in_coda),
    ]
}

/// Values of a row of an intermediate; none if the model has none of that name. `states` are the states after the step.
pub(crate) fn width(config: &Config, name: &str) -> Option<u32> {
    if matches!(name, "states" | "adapter" | "ln_f" | "head") {
        return Some(config.n_embd);
    }
    let (kind, rest) = name.split_once('.')?;
    let (_, blocks) = sections(config).into_iter().find(|(section, _)| *section == kind)?;
    let (place, part) = rest.split_once('.').map_or((rest, None), |(place, part)| (place, Some(part)));
    (0..blocks).find(|block| block.to_string() == place)?;
    Some(match part {
        None | Some("norm_1" | "norm_2" | "norm_3" | "attn.proj" | "attn.sum" | "mlp.proj" | "mlp.sum") => {
            config.n_embd
        }
        Some("attn.Wqkv") => config.qkv_rows(),
        Some("attn.q_rope" | "attn.values") => config.n_heads * config.head_dim,
        Some("mlp.hidden") => config.intermediate_size,
        Some("mlp.fc") => 2 * config.intermediate_size,
        Some(_) => return None,
    })
}

/// All intermediates that a model can have, in the order in which they are computed.
pub(crate) fn names(config: &Config) -> Vec<String> {
    let mut names = Vec::new();
    for (section, blocks) in sections(config) {
        if section == "core_block" {
            names.extend(["states".to_owned(), "adapter".to_owned()]);
        }
        for block in 0..blocks {
            names.extend(PARTS.map(|part| format!("{section}.{block}.{part}")));
            names.push(format!("{section}.{block}"));
        }
    }
    names.extend(["ln_f".to_owned(), "head".to_owned()]);
    names
}

/// The last block of a section: what it gives has a place of its own.
pub(crate) fn is_last(config: &Config, section: &str, name: &str) -> bool {
    let blocks = sections(config).into_iter().find(|(other, _)| *other == section).map_or(0, |(_, blocks)| blocks);
    blocks.checked_sub(1).is_some_and(|last| name == format!("{section}.{last}"))
}
