//! HTML page of a sweep.

use anyhow::Result;
use serde_json::{Value, json};

use super::Swept;
use super::chart::{lines, title};
use super::terminal::row_json;
use crate::plot::{self, hex, task};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/chart.js");

/// Renders the page of a sweep.
pub(super) fn page(swept: &Swept<'_>) -> Result<String> {
    let line = |line: &super::chart::Line<'_>| {
        json!({
            "name": line.name,
            "color": line.color,
            "rule": line.rule,
            "rows": line.rows.iter().map(|row| row_json(row)).collect::<Value>(),
        })
    };
    let data = json!({
        "about": title(swept),
        "lines": lines(swept).iter().map(line).collect::<Value>(),
        "series": (0..7).map(|at| hex(task(at))).collect::<Value>(),
    });
    plot::page(PAGE, STYLE, SCRIPT, &data)
}
