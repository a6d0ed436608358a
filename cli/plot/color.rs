//! Colors of charts, legible on light and dark backgrounds and for color-blind readers.

use clap::ValueEnum;
use plotters::style::RGBColor;

/// Colors of background and text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Theme {
    /// Dark on light
    #[default]
    Light,
    /// Light on dark
    Dark,
}

impl Theme {
    /// Background.
    pub(crate) fn paper(self) -> RGBColor {
        self.of(RGBColor(255, 255, 255), RGBColor(16, 18, 24))
    }

    /// Text and axes.
    pub(crate) fn ink(self) -> RGBColor {
        self.of(RGBColor(28, 31, 38), RGBColor(232, 234, 240))
    }

    /// Secondary text.
    pub(crate) fn pale(self) -> RGBColor {
        self.of(RGBColor(104, 110, 122), RGBColor(152, 158, 172))
    }

    /// Grid lines.
    pub(crate) fn grid(self) -> RGBColor {
        self.of(RGBColor(228, 231, 236), RGBColor(42, 46, 56))
    }

    fn of(self, light: RGBColor, dark: RGBColor) -> RGBColor {
        if self == Self::Light { light } else { dark }
    }
}

/// Color of a distance, from 0 (converged) to 1 (far).
pub(crate) fn far(part: f64) -> RGBColor {
    gradient(colorous::MAGMA, 0.08 + 0.9 * part)
}

/// Color of a step, from 0 (first) to 1 (last).
pub(crate) fn step(part: f64) -> RGBColor {
    gradient(colorous::PLASMA, 0.88 - 0.66 * part)
}

/// Color of a task, or of another series.
pub(crate) fn task(at: usize) -> RGBColor {
    // The Okabe-Ito palette, without the colors that are hard to see on a light or dark background.
    const COLORS: [(u8, u8, u8); 7] =
        [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (128, 128, 128)];
    let (red, green, blue) = COLORS[at % COLORS.len()];
    RGBColor(red, green, blue)
}

/// Whether dark text is easier to read on a color than light text.
pub(crate) fn is_light(color: RGBColor) -> bool {
    0.299 * f64::from(color.0) + 0.587 * f64::from(color.1) + 0.114 * f64::from(color.2) > 140.0
}

/// Color in CSS notation.
pub(crate) fn hex(color: RGBColor) -> String {
    format!("#{:02x}{:02x}{:02x}", color.0, color.1, color.2)
}

fn gradient(gradient: colorous::Gradient, part: f64) -> RGBColor {
    let colorous::Color { r, g, b } = gradient.eval_continuous(part.clamp(0.0, 1.0));
    RGBColor(r, g, b)
}
