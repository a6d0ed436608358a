//! HTML page of a trace.

use anyhow::Result;
use serde_json::{Value, json};

use super::gather::Found;
use crate::plot::{self, far, hex, step, task};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: [&str; 6] = [
    include_str!("page/plot.js"),
    include_str!("page/text.js"),
    include_str!("page/heat.js"),
    include_str!("page/path.js"),
    include_str!("page/lens.js"),
    include_str!("page/main.js"),
];
/// Number of colors in a gradient.
const COLORS: u32 = 128;

/// Renders the page of a trace.
pub(super) fn page(found: &Found) -> Result<String> {
    plot::page(PAGE, STYLE, &SCRIPT.concat(), &data(found))
}

fn data(found: &Found) -> Value {
    let trace = &found.trace;
    let steps = trace.steps as usize + 1;
    let floats = |values: &[f32]| values.iter().map(|&value| short(value)).collect::<Value>();
    let by_token = |values: &[f32]| values.chunks(steps).map(floats).collect::<Value>();
    let by_step = |values: &[f32], width: usize| {
        values.chunks(steps * width).map(|token| token.chunks(width).map(floats).collect::<Value>()).collect::<Value>()
    };
    let tops = trace.top_tokens.chunks(steps * trace.top);
    let tops = tops.map(|token| token.chunks(trace.top).map(|step| json!(step)).collect::<Value>());
    let colors = |gradient: fn(f64) -> plotters::style::RGBColor| {
        (0..COLORS).map(|at| hex(gradient(f64::from(at) / f64::from(COLORS - 1)))).collect::<Value>()
    };
    json!({
        "about": found.title(),
        "kv_dtype": found.kv_dtype.name(),
        "floor": short(found.floor),
        "steps": trace.steps,
        "prompt": found.prompt,
        "focus": found.focus,
        "tokens": found.texts,
        "last": found.last,
        "used": trace.used,
        "settled": trace.stable_from(),
        "distances": by_token(&trace.distances()),
        "entropies": by_token(&trace.entropies),
        "top": tops.collect::<Value>(),
        "likely": by_step(&trace.top_probabilities, trace.top),
        "words": found.words.iter().map(|(id, text)| (id.to_string(), json!(text))).collect::<serde_json::Map<_, _>>(),
        "pca": by_step(&found.pca.coordinates, found.pca.components),
        "explained": floats(&found.pca.explained),
        "far": colors(far),
        "path": colors(step),
        "series": (0..6).map(|at| hex(task(at))).collect::<Value>(),
    })
}

/// Rounds to five digits, more than the page can show.
fn short(value: f32) -> Value {
    let rounded = format!("{value:.4e}").parse::<f64>().unwrap_or(0.0);
    if rounded.fract() == 0.0 && rounded.abs() < 1e15 { json!(rounded as i64) } else { json!(rounded) }
}
