//! Shared parts of charts: pictures as SVG and PNG, fonts and colors.

mod color;
mod html;
mod output;

pub(crate) use self::color::{Theme, far, hex, is_light, step, task};
pub(crate) use self::html::page;
pub(crate) use self::output::{ChartOutput, distinct, say_written, writable};

use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, IntoDrawingArea, SVGBackend};
use plotters::style::text_anchor::Pos;
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, TextStyle, register_font};
use resvg::{tiny_skia, usvg};

/// Font family of the charts. A viewer without Inter uses another sans-serif font.
const FAMILY: &str = "Inter, Helvetica, Arial, sans-serif";
static REGULAR: &[u8] = include_bytes!("inter/Inter-Regular.otf");
static BOLD: &[u8] = include_bytes!("inter/Inter-SemiBold.otf");

/// Drawing area of a chart.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a picture of `size` pixels as SVG.
pub(crate) fn svg(
    size: (u32, u32),
    theme: Theme,
    draw: impl for<'a, 'b> FnOnce(&'a Area<'b>) -> Result<()>,
) -> Result<String> {
    static FONTS: Once = Once::new();
    let mut registered = Ok(());
    FONTS.call_once(|| {
        registered = register_font(FAMILY, FontStyle::Normal, REGULAR)
            .and_then(|()| register_font(FAMILY, FontStyle::Bold, BOLD));
    });
    registered.map_err(|_| anyhow!("the embedded font does not load"))?;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        drawn(area.fill(&theme.paper()))?;
        draw(&area)?;
        drawn(area.present())?;
    }
    Ok(text)
}

/// Renders an SVG picture as PNG.
pub(crate) fn png(svg: &str) -> Result<Vec<u8>> {
    let mut options = usvg::Options { font_family: "Inter".to_owned(), ..usvg::Options::default() };
    let fonts = options.fontdb_mut();
    fonts.load_font_data(REGULAR.to_vec());
    fonts.load_font_data(BOLD.to_vec());
    let tree = usvg::Tree::from_str(svg, &options).context("the chart is not a valid SVG")?;
    let size = tree.size().to_int_size();
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).context("the chart has no size")?;
    resvg::render(&tree, tiny_skia::Transform::identity(), &mut pixels.as_mut());
    pixels.encode_png().context("the chart cannot be written as PNG")
}

/// Converts an error of the plotting library.
pub(crate) fn drawn<T, E: std::fmt::Display>(outcome: Result<T, E>) -> Result<T> {
    outcome.map_err(|error| anyhow!("cannot draw the chart: {error}"))
}

/// Text style with a font size in pixels.
pub(crate) fn letters(size: u32, color: impl Color, bold: bool) -> TextStyle<'static> {
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    let font = FontDesc::new(FontFamily::Name(FAMILY), f64::from(size), style);
    TextStyle { color: color.to_backend_color(), font, pos: Pos::default() }
}
