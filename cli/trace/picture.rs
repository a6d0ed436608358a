//! Picture of a trace: a heat map, and the path of one token in three planes.

use anyhow::Result;
use plotters::chart::ChartBuilder;
use plotters::element::{Circle, Cross, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, RGBColor, WHITE};

use super::gather::Found;
use super::terminal::visible;
use crate::plot::{Area, Theme, drawn, far, letters, step, svg};

/// Width, in pixels.
const WIDTH: u32 = 2400;
/// Width of the heat map.
const HEAT: u32 = 1580;
/// Height of the title.
const HEAD: u32 = 150;
/// Height of the axis and color scale below the heat map.
const FOOT: u32 = 280;
/// Height of a plane of principal components.
const PLANE: u32 = 560;
/// Maximum and minimum height of the heat map's cells.
const CELL: (u32, u32) = (110, 8);
/// Font size of labels.
const SMALL: u32 = 30;
/// Font size of titles.
const LARGE: u32 = 34;

/// Draws the picture of a trace as SVG.
pub(super) fn picture(found: &Found, theme: Theme) -> Result<String> {
    let rows = found.trace.tokens.len() as u32;
    let planes = (found.pca.components / 2).max(1) as u32;
    let cell = (planes * PLANE / rows).clamp(CELL.1, CELL.0);
    let height = HEAD + (rows * cell + FOOT).max(planes * PLANE + FOOT / 2);
    svg((WIDTH, height), theme, |area| {
        title(area, found, theme)?;
        heat(area, found, theme, rows * cell)?;
        for plane in 0..planes as usize {
            path(area, found, theme, plane)?;
        }
        let (left, top) = (i32_of(HEAT) + 190, i32_of(HEAD + planes * PLANE) + 14);
        let marks =
            marks(f64::from(found.trace.steps), 6).map(|at| (at / f64::from(found.trace.steps), at.to_string()));
        scale(area, theme, (left, top), 560, step, marks.collect(), "recurrence step i")
    })
}

fn title(area: &Area<'_>, found: &Found, theme: Theme) -> Result<()> {
    let mut text = visible(&format!("{} → {}", found.prompt_text, found.answer_text));
    if text.chars().count() > 110 {
        text = text.chars().take(109).chain(['…']).collect();
    }
    drawn(area.draw(&Text::new(text, (40, 34), letters(46, theme.ink(), true))))?;
    drawn(area.draw(&Text::new(found.title(), (40, 94), letters(SMALL, theme.pale(), false))))
}

fn heat(area: &Area<'_>, found: &Found, theme: Theme, height: u32) -> Result<()> {
    let trace = &found.trace;
    let (rows, columns) = (trace.tokens.len(), trace.steps as usize);
    let logs: Vec<f64> = trace.distances().iter().map(|&distance| f64::from(distance).log10()).collect();
    let finite = || logs.iter().copied().filter(|log| log.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = if low < high { (low, high) } else { (-1.0, 0.0) };

    let part = area.clone().shrink((0, HEAD), (HEAT, height + 110));
    let chart = ChartBuilder::on(&part)
        .set_label_area_size(plotters::chart::LabelAreaPosition::Left, 200)
        .set_label_area_size(plotters::chart::LabelAreaPosition::Bottom, 100)
        .set_label_area_size(plotters::chart::LabelAreaPosition::Right, 190)
        .margin_top(10)
        .build_cartesian_2d(-0.5..columns as f64 - 0.5, rows as f64..0.0);
    let mut chart = drawn(chart)?;
    let cells = (0..rows).flat_map(|token| (0..columns).map(move |step| (token, step)));
    let cells = cells.map(|(token, step)| {
        let log = logs[trace.at(token, step)];
        let color = far(if log.is_finite() { (log - low) / (high - low) } else { 0.0 });
        let (x, y) = (step as f64, token as f64);
        Rectangle::new([(x - 0.5, y), (x + 0.5, y + 1.0)], color.filled())
    });
    drawn(chart.draw_series(cells))?;
    let prompt = found.prompt as f64;
    let line = vec![(-0.5, prompt), (columns as f64 - 0.5, prompt)];
    drawn(chart.draw_series([PathElement::new(line, theme.paper().stroke_width(5))]))?;
    // Tokens that exited before the last step are marked.
    let stopped: Vec<usize> = (0..rows).filter(|&token| trace.used[token] < trace.steps).collect();
    for (color, width) in [(BLACK, 12), (WHITE, 6)] {
        let stops = stopped.iter().map(|&token| {
            let (x, y) = (f64::from(trace.used[token]), token as f64);
            PathElement::new(vec![(x, y), (x, y + 1.0)], color.stroke_width(width))
        });
        drawn(chart.draw_series(stops))?;
    }
    let mut mesh = chart.configure_mesh();
    mesh.disable_mesh().disable_y_axis().x_labels(10).x_label_formatter(&|at| format!("{at:.0}"));
    mesh.axis_style(theme.grid()).x_desc("recurrence step i").axis_desc_style(letters(LARGE, theme.ink(), false));
    drawn(mesh.label_style(letters(SMALL, theme.pale(), false)).draw())?;

    let places = chart.plotting_area();
    let every = (34 * rows).div_ceil(height as usize);
    for token in 0..rows {
        let focus = token == found.focus;
        if token % every != 0 && !focus {
            continue;
        }
        let color = if focus { theme.ink() } else { theme.pale() };
        let style = letters(SMALL, color, focus);
        let (left, y) = places.map_coordinate(&(-0.5, token as f64 + 0.5));
        let (right, _) = places.map_coordinate(&(columns as f64 - 0.5, token as f64 + 0.5));
        let before = style.pos(Pos::new(HPos::Right, VPos::Center));
        drawn(area.draw(&Text::new(short(&found.texts[token]), (left - 14, y), before)))?;
        let (word, _) = found.top(token, columns);
        let behind = style.pos(Pos::new(HPos::Left, VPos::Center));
        drawn(area.draw(&Text::new(format!("→ {}", short(word)), (right + 14, y), behind)))?;
    }
    let powers = (low.ceil() as i32..=high.floor() as i32).map(|power| {
        let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
        let sign = if power < 0 { "⁻" } else { "" };
        let digits: String = power.unsigned_abs().to_string().bytes().map(|b| digits[usize::from(b - b'0')]).collect();
        ((f64::from(power) - low) / (high - low), format!("10{sign}{digits}"))
    });
    let top = i32_of(HEAD + height) + 130;
    let stops = if stopped.is_empty() { "" } else { "; white marks: where the token stopped" };
    let label = format!("distance ‖s(i) − s*‖ from the final state{stops}");
    scale(area, theme, (440, top), 700, far, powers.collect(), &label)
}

/// Draws the path of a token's state in a plane.
fn path(area: &Area<'_>, found: &Found, theme: Theme, plane: usize) -> Result<()> {
    let (trace, pca) = (&found.trace, &found.pca);
    let steps = trace.steps as usize;
    let axes = [2 * plane, (2 * plane + 1).min(pca.components - 1)];
    let at = |step: usize| {
        let point = &pca.coordinates[trace.at(found.focus, step) * pca.components..][..pca.components];
        (f64::from(point[axes[0]]), f64::from(point[axes[1]]))
    };
    let points: Vec<(f64, f64)> = (0..=steps).map(at).collect();
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) =
            points.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        let room = ((high - low) * 0.08).max(1e-6);
        low - room..high + room
    };
    let share = |axis: usize| format!("PC {} ({:.1} %)", axis + 1, pca.explained[axis] * 100.0);
    let top = HEAD + plane as u32 * PLANE;
    let part = area.clone().shrink((HEAT, top), (WIDTH - HEAT - 40, PLANE - 20));
    let mut builder = ChartBuilder::on(&part);
    builder.set_label_area_size(plotters::chart::LabelAreaPosition::Left, 150);
    builder.set_label_area_size(plotters::chart::LabelAreaPosition::Bottom, 96).margin_top(10).margin_right(16);
    if plane == 0 {
        let name = format!("path of {}, position {}", visible(&found.texts[found.focus]), found.focus);
        builder.caption(name, letters(LARGE, theme.ink(), true));
    }
    let mut chart = drawn(builder.build_cartesian_2d(bounds(|p| p.0), bounds(|p| p.1)))?;
    let mut mesh = chart.configure_mesh();
    mesh.axis_style(theme.grid()).bold_line_style(theme.grid()).light_line_style(theme.paper().mix(0.0));
    mesh.x_labels(5).y_labels(5).x_label_formatter(&|x| figure(*x)).y_label_formatter(&|y| figure(*y));
    mesh.x_desc(share(axes[0])).y_desc(share(axes[1])).axis_desc_style(letters(LARGE, theme.ink(), false));
    drawn(mesh.label_style(letters(SMALL, theme.pale(), false)).draw())?;
    let color = |at: usize| step(at as f64 / steps as f64);
    let lines =
        points.windows(2).enumerate().map(|(at, pair)| PathElement::new(pair.to_vec(), color(at + 1).stroke_width(4)));
    drawn(chart.draw_series(lines))?;
    drawn(chart.draw_series(points.iter().enumerate().map(|(at, &point)| Circle::new(point, 7, color(at).filled()))))?;
    let (first, last) = (points[0], points[steps]);
    drawn(chart.draw_series([Circle::new(first, 14, color(0).stroke_width(4))]))?;
    drawn(chart.draw_series([Cross::new(last, 16, theme.ink().stroke_width(4))])).map(drop)
}

/// Draws a color scale with ticks and a label below. A tick is a fraction of the width and a text.
fn scale(
    area: &Area<'_>,
    theme: Theme,
    (left, top): (i32, i32),
    width: i32,
    color: fn(f64) -> RGBColor,
    ticks: Vec<(f64, String)>,
    label: &str,
) -> Result<()> {
    for x in 0..width / 4 {
        let (from, part) = (left + x * 4, f64::from(x * 4) / f64::from(width));
        drawn(area.draw(&Rectangle::new([(from, top), (from + 4, top + 24)], color(part).filled())))?;
    }
    let centered = Pos::new(HPos::Center, VPos::Top);
    for (part, text) in ticks {
        let x = left + (part * f64::from(width)) as i32;
        drawn(area.draw(&PathElement::new(vec![(x, top + 24), (x, top + 32)], theme.pale().stroke_width(2))))?;
        drawn(area.draw(&Text::new(text, (x, top + 36), letters(SMALL, theme.pale(), false).pos(centered))))?;
    }
    let place = (left + width / 2, top + 72);
    drawn(area.draw(&Text::new(label.to_owned(), place, letters(LARGE, theme.ink(), false).pos(centered))))
}

/// Tick marks at whole numbers from 0 to `high`.
fn marks(high: f64, count: u32) -> impl Iterator<Item = f64> {
    let rough = (high / f64::from(count)).max(1.0);
    let power = 10f64.powf(rough.log10().floor());
    let size = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|&n| n >= rough).unwrap_or(rough);
    (0..).map(move |at| f64::from(at) * size).take_while(move |&at| at <= high)
}

/// Formats a coordinate without trailing zeros.
fn figure(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.replace('-', "−") }
}

/// Text of a token, shortened to nine characters.
fn short(text: &str) -> String {
    let text = visible(text);
    if text.chars().count() <= 9 { text } else { text.chars().take(8).chain(['…']).collect() }
}

fn i32_of(pixels: u32) -> i32 {
    i32::try_from(pixels).unwrap_or(i32::MAX)
}
