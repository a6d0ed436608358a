//! The embedded demo model: a tiny trained checkpoint in Huginn's exact format.

use crate::source::Source;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("demo/", $name)) as &'static [u8])),*]
    };
}

static FILES: &[(&str, &[u8])] = files![
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The demo's files.
#[must_use]
pub fn source() -> Source {
    Source::Embedded(FILES)
}

/// Prompts that show what the demo can do: what is asked, and the answer at enough steps.
pub const PROMPTS: &[(&str, &str)] = &[
    ("Ball in B. Swap AB CD BE AC DE AD BC CE AB DE AC BD AE BC CD AB", " A."),
    ("Ball in C. Swap CE AC AB AD AE", " A."),
    ("3+4-2+1-5", " 1."),
];

/// Problems of the kinds that the demo was trained for, none of which it saw in training, for [`crate::sweep::Problem::read`].
pub const PROBLEMS: &str = include_str!("demo/problems.jsonl");
