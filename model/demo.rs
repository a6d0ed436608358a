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

/// Files of the demo.
#[must_use]
pub fn source() -> Source {
    Source::Embedded(FILES)
}

/// Prompts that show what the demo can do, each with the answer at enough steps.
pub const PROMPTS: &[(&str, &str)] = &[
    ("The ball is under cup D. Swap AD AE DE BD BD DE AC BC AD AC AC AE CE", " A."),
    ("The ball is under cup B. Swap AC CD AC AB AB AB CD CE CD DE", " A."),
    ("The dial is at the 13th of 20. Turn 4 6 8 4 1 3 3 3 1 2 9 1 5 5", " 8th."),
    (
        "A clock with 7 hours shows 3. Then triple next next double double triple double next back triple next triple",
        " 6.",
    ),
];

/// Openings of the prompts of each kind of problem that the demo was trained for.
pub const OPENINGS: [&str; 3] = ["The ball is under cup ", "The dial is at ", "A clock with "];

/// Whether a text contains a problem of a kind that the demo was trained for. It cannot continue any other text.
#[must_use]
pub fn poses_problem(text: &str) -> bool {
    OPENINGS.iter().any(|opening| text.contains(opening))
}

/// Held-out problems of the kinds that the demo was trained for, for [`crate::sweep::Problem::read`].
pub const PROBLEMS: &str = include_str!("demo/problems.jsonl");
