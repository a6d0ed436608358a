//! Prints a trace in the terminal: a line per token, a cell per step.

use std::io::{IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{RgbColor, Style};
use anyhow::Result;

use super::gather::Found;
use crate::plot::far;

/// Columns of a token's text.
const LABEL: usize = 12;
/// Columns after the cells.
const FIGURES: usize = 32;
/// Columns if the width of the terminal is unknown.
const USUAL: usize = 100;

/// Prints the heat map, and the figures of every token.
pub(super) fn print(found: &Found) -> Result<()> {
    let stdout = std::io::stdout();
    let colored = AutoStream::choice(&stdout) != ColorChoice::Never && stdout.is_terminal();
    let width = terminal_size::terminal_size().map_or(USUAL, |(width, _)| usize::from(width.0));
    let mut out = AutoStream::auto(stdout.lock());
    write(&mut out, found, colored, width)
}

fn write(out: &mut impl Write, found: &Found, colored: bool, width: usize) -> Result<()> {
    let trace = &found.trace;
    let steps = trace.steps as usize;
    // One column per step, or one for several steps if the terminal is too narrow.
    let room = width.saturating_sub(LABEL + FIGURES).max(16);
    let each = (steps + 1).div_ceil(room);
    let columns = (steps + 1).div_ceil(each);
    let distances = trace.distances();
    let scale = Scale::of(&distances);
    let dim = Style::new().dimmed();
    let bold = Style::new().bold();

    writeln!(out, "{}{bold}{}{bold:#}", found.prompt_text, found.answer_text)?;
    writeln!(out, "{dim}{}{dim:#}\n", found.title())?;
    writeln!(out, "{:LABEL$}{}  used  stays  entropy  would say", "step", ruler(columns, each))?;
    let settled = trace.stable_from();
    for token in 0..trace.tokens.len() {
        if token == found.prompt {
            writeln!(out, "{dim}{:LABEL$}{}{dim:#}", "", "─".repeat(columns))?;
        }
        write!(out, "{:<LABEL$}", label(&found.texts[token]))?;
        for column in 0..columns {
            let step = (column * each).min(steps);
            let part = scale.part(distances[trace.at(token, step)]);
            if colored {
                let color = far(part);
                let style = Style::new().bg_color(Some(RgbColor(color.0, color.1, color.2).into()));
                // Marks the step at which the token exited early.
                let mark = if step == (trace.used[token] as usize / each) * each && step < steps { '|' } else { ' ' };
                write!(out, "{style}{mark}{style:#}")?;
            } else {
                write!(out, "{:.0}", part * 9.0)?;
            }
        }
        let entropy = trace.entropies[trace.at(token, steps)];
        let (word, likely) = found.top(token, steps);
        let (used, settled) = (trace.used[token], settled[token]);
        writeln!(out, "  {used:>4}  {settled:>5}  {entropy:>7.3}  {} {:.0} %", visible(word), likely * 100.0)?;
    }
    legend(out, &scale, colored)
}

fn legend(out: &mut impl Write, scale: &Scale, colored: bool) -> Result<()> {
    write!(out, "\ndistance to the final state: ")?;
    if colored {
        write!(out, "{:.1e} ", scale.value(0.0))?;
        for at in 0..30 {
            let color = far(f64::from(at) / 29.0);
            let style = Style::new().bg_color(Some(RgbColor(color.0, color.1, color.2).into()));
            write!(out, "{style} {style:#}")?;
        }
        writeln!(out, " {:.1e}", scale.value(1.0))?;
    } else {
        writeln!(out, "9 is {:.1e}, 0 is {:.1e} or less, equal factors between", scale.value(1.0), scale.value(0.0))?;
    }
    writeln!(
        out,
        "used: steps taken; stays: step from which the most likely token no longer changes; entropy in nats"
    )?;
    Ok(())
}

/// Step numbers above the cells.
fn ruler(columns: usize, each: usize) -> String {
    let mut ruler = String::new();
    while ruler.len() < columns {
        let number = (ruler.len() * each).to_string();
        if ruler.len() + number.len() <= columns {
            ruler.push_str(&number);
        }
        let next = (ruler.len() / 8 + 1) * 8;
        ruler.push_str(&" ".repeat(next.min(columns) - ruler.len()));
    }
    ruler
}

/// Logarithmic scale of distances.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(distances: &[f32]) -> Self {
        let logs = distances.iter().filter(|&&distance| distance > 0.0).map(|&distance| f64::from(distance).log10());
        let (low, high) =
            logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| (low.min(log), high.max(log)));
        if low <= high { Self { low, high } } else { Self { low: -1.0, high: 0.0 } }
    }

    /// Position on the scale, from 0 (converged) to 1 (far).
    fn part(&self, distance: f32) -> f64 {
        let log = f64::from(distance).log10();
        if log.is_finite() { (log - self.low) / (self.high - self.low).max(1e-9) } else { 0.0 }
    }

    fn value(&self, part: f64) -> f64 {
        10f64.powf(self.low + part * (self.high - self.low))
    }
}

/// Text of a token, shortened to its column.
fn label(text: &str) -> String {
    let text = visible(text);
    if text.chars().count() < LABEL { text } else { text.chars().take(LABEL - 2).chain(['…']).collect() }
}

/// Makes line breaks, and spaces at both ends, visible.
pub(super) fn visible(text: &str) -> String {
    let text = text.replace('\n', "↵").replace('\t', "⇥").replace(|c: char| c.is_control(), "\u{fffd}");
    let text = text.strip_prefix(' ').map_or_else(|| text.clone(), |rest| format!("␣{rest}"));
    text.strip_suffix(' ').map_or_else(|| text.clone(), |rest| format!("{rest}␣"))
}

#[cfg(test)]
mod tests {
    use super::{Scale, label, ruler, visible};

    #[test]
    fn a_ruler_has_numbers_at_every_eighth_cell() {
        assert_eq!(ruler(17, 1), "0       8        ");
        assert_eq!(ruler(20, 4), "0       32      64  ");
    }

    #[test]
    fn labels_show_spaces_and_fit_their_column() {
        assert_eq!(visible(" a\n"), "␣a↵");
        assert_eq!(label(" transformers everywhere"), "␣transform…");
    }

    #[test]
    fn scale_is_logarithmic_and_zero_distance_is_its_low_end() {
        let scale = Scale::of(&[100.0, 1.0, 0.0]);
        assert_eq!([100.0, 10.0, 1.0, 0.0].map(|distance| scale.part(distance)), [1.0, 0.5, 0.0, 0.0]);
        assert!(Scale::of(&[0.0]).part(0.0) == 0.0);
    }
}
