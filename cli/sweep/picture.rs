//! The chart as a picture.

use anyhow::Result;
use plotters::chart::{ChartBuilder, LabelAreaPosition};
use plotters::element::{Circle, Cross, PathElement, Rectangle, Text, TriangleMarker};
use plotters::style::{Color, RGBColor};

use super::Swept;
use super::chart::{Line, lines, title};
use crate::plot::{Area, Theme, drawn, letters, svg, task};

/// Pixels.
const SIZE: (u32, u32) = (2000, 1150);
/// Right of the chart: names of the lines.
const NAMES: u32 = 500;
const SMALL: u32 = 30;
const LARGE: u32 = 34;

/// The picture of a sweep as SVG.
pub(super) fn picture(swept: &Swept<'_>, theme: Theme) -> Result<String> {
    let lines = lines(swept);
    svg(SIZE, theme, |area| {
        let head = "Right answers by recurrence steps";
        drawn(area.draw(&Text::new(head, (40, 34), letters(46, theme.ink(), true))))?;
        drawn(area.draw(&Text::new(title(swept), (40, 94), letters(SMALL, theme.pale(), false))))?;
        chart(area, &lines, theme)?;
        names(area, &lines, theme)
    })
}

fn colour(line: &Line<'_>, theme: Theme) -> RGBColor {
    line.task.map_or(theme.ink(), task)
}

/// How far a line stands beside its steps, so that bars are seen one beside the other.
fn beside(at: usize, lines: usize) -> f64 {
    0.025 * (at as f64 - (lines as f64 - 1.0) / 2.0)
}

/// Steps that went into an answer, as their logarithm to base 2.
fn across(line: &Line<'_>, at: usize) -> f64 {
    line.rows[at].tally.mean_steps().log2()
}

fn chart(area: &Area<'_>, lines: &[Line<'_>], theme: Theme) -> Result<()> {
    let all = || lines.iter().flat_map(|line| (0..line.rows.len()).map(move |at| across(line, at)));
    let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let part = area.clone().shrink((0, 150), (SIZE.0 - NAMES, SIZE.1 - 160));
    let chart = ChartBuilder::on(&part)
        .set_label_area_size(LabelAreaPosition::Left, 160)
        .set_label_area_size(LabelAreaPosition::Bottom, 110)
        .margin_top(20)
        .margin_right(20)
        .margin_left(20)
        .build_cartesian_2d(low.floor() - 0.15..high.ceil() + 0.15, -2f64..102.0);
    let mut chart = drawn(chart)?;
    let mut mesh = chart.configure_mesh();
    mesh.axis_style(theme.grid()).bold_line_style(theme.grid()).light_line_style(theme.paper().mix(0.0));
    let power = |x: &f64| if x.fract() == 0.0 { format!("{}", x.exp2()) } else { String::new() };
    let powers = ((high - low).ceil() as i64).unsigned_abs() as usize;
    mesh.x_labels(powers + 2).y_labels(6).x_label_formatter(&power);
    mesh.y_label_formatter(&|y| format!("{y:.0} %"));
    mesh.x_desc("recurrence steps per token of the answer, on average").y_desc("right answers");
    mesh.axis_desc_style(letters(LARGE, theme.ink(), false));
    drawn(mesh.label_style(letters(SMALL, theme.pale(), false)).draw())?;
    for (place, line) in lines.iter().enumerate() {
        let colour = colour(line, theme);
        let apart = beside(place, lines.len());
        let points: Vec<(f64, f64)> =
            (0..line.rows.len()).map(|at| (across(line, at) + apart, line.rows[at].tally.accuracy() * 100.0)).collect();
        let bars = line.rows.iter().zip(&points).map(|(row, &(x, _))| {
            let (low, high) = row.tally.interval();
            PathElement::new(vec![(x, low * 100.0), (x, high * 100.0)], colour.mix(0.45).stroke_width(5))
        });
        drawn(chart.draw_series(bars))?;
        drawn(chart.draw_series([PathElement::new(points.clone(), colour.stroke_width(5))]))?;
        match line.rule % 3 {
            0 => drawn(chart.draw_series(points.iter().map(|&at| Circle::new(at, 11, colour.filled()))))?,
            1 => drawn(chart.draw_series(points.iter().map(|&at| TriangleMarker::new(at, 15, colour.filled()))))?,
            _ => drawn(chart.draw_series(points.iter().map(|&at| Cross::new(at, 13, colour.stroke_width(5)))))?,
        };
    }
    Ok(())
}

fn names(area: &Area<'_>, lines: &[Line<'_>], theme: Theme) -> Result<()> {
    let left = i32::try_from(SIZE.0 - NAMES).unwrap_or(0) + 10;
    let mut top = 180;
    for line in lines {
        let colour = colour(line, theme);
        drawn(area.draw(&Rectangle::new([(left, top - 3), (left + 44, top + 3)], colour.filled())))?;
        let place = (left + 22, top);
        match line.rule % 3 {
            0 => drawn(area.draw(&Circle::new(place, 11, colour.filled())))?,
            1 => drawn(area.draw(&TriangleMarker::new(place, 15, colour.filled())))?,
            _ => drawn(area.draw(&Cross::new(place, 13, colour.stroke_width(5))))?,
        }
        let name = Text::new(line.name.clone(), (left + 62, top - 15), letters(SMALL, theme.ink(), false));
        drawn(area.draw(&name))?;
        top += 50;
    }
    let note = Text::new("bars: 95 % intervals", (left, top + 6), letters(26, theme.pale(), false));
    drawn(area.draw(&note))
}
