//! Picture of a sweep, as SVG.

use anyhow::Result;
use plotters::chart::{ChartBuilder, LabelAreaPosition};
use plotters::element::{Circle, Cross, DashedPathElement, PathElement, Polygon, Rectangle, Text, TriangleMarker};
use plotters::style::{Color, RGBColor};

use super::Swept;
use super::chart::{Line, lines, title};
use crate::plot::{Area, Theme, drawn, letters, svg, task};

/// Width and height, in pixels.
const SIZE: (u32, u32) = (2000, 1150);
/// Width of the names right of the chart, in pixels.
const NAMES: u32 = 500;
const SMALL: u32 = 30;
const LARGE: u32 = 34;

/// Draws the picture of a sweep as SVG.
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

fn color(line: &Line<'_>, theme: Theme) -> RGBColor {
    line.color.map_or(theme.ink(), task)
}

/// Dash and gap lengths of each exit rule's lines, in pixels; the first rule has solid lines.
const DASHES: [(i32, i32); 6] = [(1, 0), (24, 14), (6, 10), (44, 12), (14, 6), (4, 18)];

/// Draws a line between pixels in the dashes of its exit rule.
fn curve(area: &Area<'_>, line: &Line<'_>, pixels: Vec<(i32, i32)>, theme: Theme) -> Result<()> {
    let style = color(line, theme).stroke_width(5);
    match DASHES[line.rule % DASHES.len()] {
        (_, 0) => drawn(area.draw(&PathElement::new(pixels, style))),
        (dash, gap) => drawn(area.draw(&DashedPathElement::new(pixels, dash, gap, style))),
    }
}

/// Draws a point in the shape of its exit rule.
fn mark(area: &Area<'_>, line: &Line<'_>, (x, y): (i32, i32), theme: Theme) -> Result<()> {
    let style = color(line, theme).filled();
    match line.rule % 5 {
        0 => drawn(area.draw(&Circle::new((x, y), 11, style))),
        1 => drawn(area.draw(&TriangleMarker::new((x, y), 15, style))),
        2 => drawn(area.draw(&Rectangle::new([(x - 10, y - 10), (x + 10, y + 10)], style))),
        3 => drawn(area.draw(&Polygon::new([(x - 14, y), (x, y - 14), (x + 14, y), (x, y + 14)], style))),
        _ => drawn(area.draw(&Cross::new((x, y), 13, color(line, theme).stroke_width(5)))),
    }
}

/// Mean steps of the answers, as a logarithm to base 2.
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
        let color = color(line, theme);
        let points: Vec<(f64, f64)> =
            (0..line.rows.len()).map(|at| (across(line, at), line.rows[at].tally.accuracy() * 100.0)).collect();
        // Later bars are narrower, so that overlapping bars stay visible.
        let width = 16_u32.saturating_sub(2 * place as u32).max(4);
        let bars = line.rows.iter().zip(&points).map(|(row, &(x, _))| {
            let (low, high) = row.tally.interval();
            PathElement::new(vec![(x, low * 100.0), (x, high * 100.0)], color.mix(0.4).stroke_width(width))
        });
        drawn(chart.draw_series(bars))?;
        let pixels: Vec<_> = points.iter().map(|at| chart.plotting_area().map_coordinate(at)).collect();
        curve(area, line, pixels.clone(), theme)?;
        pixels.into_iter().try_for_each(|place| mark(area, line, place, theme))?;
    }
    Ok(())
}

fn names(area: &Area<'_>, lines: &[Line<'_>], theme: Theme) -> Result<()> {
    let left = i32::try_from(SIZE.0 - NAMES).unwrap_or(0) + 30;
    let mut top = 180;
    for line in lines {
        curve(area, line, vec![(left - 20, top), (left + 64, top)], theme)?;
        mark(area, line, (left + 22, top), theme)?;
        let name = Text::new(line.name.clone(), (left + 82, top - 15), letters(SMALL, theme.ink(), false));
        drawn(area.draw(&name))?;
        top += 50;
    }
    let note = Text::new("bars: 95 % intervals", (left, top + 6), letters(26, theme.pale(), false));
    drawn(area.draw(&note))
}
