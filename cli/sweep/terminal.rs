//! Prints the rows as a table with a small chart, as CSV or as JSON.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::Swept;
use super::chart::{lines, title};
use super::rows::Row;
use crate::table::table;
use crate::visible;

/// Bars from 0 to 100 %.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Prints the table and the chart.
pub(super) fn print(out: &mut impl Write, swept: &Swept<'_>) -> Result<()> {
    writeln!(out, "{}", title(swept))?;
    let heads = ["task", "exit", "steps", "n", "right: %", "95 % interval", "mean steps", "perplexity", "tokens/s"];
    table(out, &heads, 2, swept.rows.iter().map(cells))?;
    let lines = lines(swept);
    let most = lines.iter().map(|line| line.rows.len()).max().unwrap_or(0);
    if most < 2 {
        return Ok(());
    }
    let width = lines.iter().map(|line| visible::name(&line.name).chars().count()).max().unwrap_or(0).max(14);
    write!(out, "\n{:width$}", "right at steps")?;
    if let Some(line) = lines.iter().find(|line| line.rows.len() == most) {
        for row in &line.rows {
            write!(out, " {:>4}", row.steps)?;
        }
    }
    writeln!(out)?;
    for line in &lines {
        write!(out, "{:width$}", visible::name(&line.name))?;
        for row in &line.rows {
            let bar = BARS[((row.tally.accuracy() * 7.0) as i64).clamp(0, 7).unsigned_abs() as usize];
            write!(out, "   {bar}{bar}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn cells(row: &Row) -> Vec<String> {
    let Row { task, steps, rule, tally } = row;
    let percent = |part: f64| format!("{:.1}", part * 100.0);
    let (low, high) = tally.interval();
    vec![
        task.clone(),
        rule.to_string(),
        steps.to_string(),
        tally.answers.to_string(),
        percent(tally.accuracy()),
        format!("{} to {}", percent(low), percent(high)),
        format!("{:.1}", tally.mean_steps()),
        if tally.perplexity() < 1e4 {
            format!("{:.3}", tally.perplexity())
        } else {
            format!("{:.2e}", tally.perplexity())
        },
        format!("{:.1}", tally.rate()),
    ]
}

/// Writes the rows as CSV.
pub(super) fn csv(out: &mut impl Write, swept: &Swept<'_>) -> Result<()> {
    let heads =
        ["task", "steps", "exit", "n", "accuracy", "ci_low", "ci_high", "mean_steps", "tokens_per_s", "perplexity"];
    let setting = [
        ("seed", swept.seed.to_string()),
        ("dtype", swept.model.dtypes().to_string()),
        ("device", swept.model.device().name().to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(heads.iter().copied().chain(setting.iter().map(|(head, _)| *head)))?;
    for row in &swept.rows {
        let row = row_json(row);
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let values = heads.iter().map(|head| text(&row[*head]));
        csv.write_record(values.chain(setting.iter().map(|(_, value)| value.clone())))?;
    }
    Ok(csv.flush()?)
}

/// Formats the rows as JSON.
pub(super) fn json(swept: &Swept<'_>) -> Value {
    json!({
        "dtype": swept.model.dtypes().to_string(),
        "device": swept.model.device().name(),
        "seed": swept.seed,
        "version": env!("CARGO_PKG_VERSION"),
        "rows": swept.rows.iter().map(row_json).collect::<Value>(),
    })
}

pub(super) fn row_json(row: &Row) -> Value {
    let Row { task, steps, rule, tally } = row;
    let (low, high) = tally.interval();
    json!({
        "task": task,
        "steps": steps,
        "exit": rule.to_string(),
        "n": tally.answers,
        "accuracy": tally.accuracy(),
        "ci_low": low,
        "ci_high": high,
        "mean_steps": tally.mean_steps(),
        "tokens_per_s": tally.rate(),
        "perplexity": tally.perplexity(),
    })
}
