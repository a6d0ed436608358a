//! Shows the steps of each token: by color, or by a number after the token if the output has no colors.

use std::io::{IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{RgbColor, Style};
use anyhow::Result;
use ruminate::Piece;

use crate::plot::{far, is_light};

/// Superscript digits, which are not mistaken for text.
const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];

/// Writer of text with steps.
pub(crate) struct ShownSteps {
    most: u32,
    /// Whether `most` is an upper limit.
    bounded: bool,
    colored: bool,
    least_seen: u32,
    most_seen: u32,
}

impl ShownSteps {
    /// Writer to stdout for tokens of up to `most` steps. If not `bounded`, tokens may take more, as in a wavefront.
    pub(crate) fn on_stdout(most: u32, bounded: bool) -> Self {
        let stdout = std::io::stdout();
        let colored = stdout.is_terminal() && AutoStream::choice(&stdout) != ColorChoice::Never;
        Self { most, bounded, colored, least_seen: u32::MAX, most_seen: 0 }
    }

    /// Writes the text of a token.
    pub(crate) fn write(&mut self, out: &mut impl Write, piece: &Piece) -> Result<()> {
        self.least_seen = self.least_seen.min(piece.steps);
        self.most_seen = self.most_seen.max(piece.steps);
        if piece.text.is_empty() {
            return Ok(());
        }
        if self.colored {
            let style = self.style(piece.steps);
            // Without a reset before the line break, the background color would extend to the margin.
            let lines = piece.text.split_inclusive('\n').map(|line| {
                let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
                format!("{style}{text}{style:#}{end}")
            });
            write!(out, "{}", lines.collect::<String>())?;
        } else {
            let number =
                piece.steps.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect::<String>();
            let text = piece.text.trim_end_matches('\n');
            write!(out, "{text}{number}{}", &piece.text[text.len()..])?;
        }
        Ok(())
    }

    /// Legend of colors or numbers.
    pub(crate) fn legend(&self) -> String {
        if self.most_seen == 0 {
            return String::new();
        }
        let Self { most, bounded, least_seen, most_seen, .. } = *self;
        let seen =
            if least_seen == most_seen { format!("{most_seen}") } else { format!("{least_seen} to {most_seen}") };
        if !self.colored {
            let most = if bounded { format!(" of at most {most}") } else { String::new() };
            return format!("small numbers: recurrence steps of the token before them, {seen}{most}");
        }
        let marks = (0..=8).map(|at| 1 + at * (most - 1) / 8);
        let mut bar: Vec<u32> = marks.collect();
        bar.dedup();
        let bar: String =
            bar.into_iter().map(|steps| self.style(steps)).map(|style| format!("{style}   {style:#}")).collect();
        let more = if bounded { "" } else { " or more" };
        format!("colors: recurrence steps of a token, 1 {bar} {most}{more}; here {seen}")
    }

    fn style(&self, steps: u32) -> Style {
        let part = f64::from(steps.saturating_sub(1)) / f64::from(self.most.saturating_sub(1).max(1));
        let color = far(part.min(1.0));
        let ink = if is_light(color) { RgbColor(20, 22, 28) } else { RgbColor(255, 255, 255) };
        Style::new().bg_color(Some(RgbColor(color.0, color.1, color.2).into())).fg_color(Some(ink.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::ShownSteps;
    use ruminate::Piece;

    fn written(colored: bool) -> (String, String) {
        let mut shown = ShownSteps { most: 32, bounded: true, colored, least_seen: u32::MAX, most_seen: 0 };
        let mut out = Vec::new();
        for (text, steps) in [(" A", 7), (".\n", 12), ("", 32)] {
            shown
                .write(&mut out, &Piece { text: text.to_owned(), steps, ..Piece::default() })
                .expect("a vector takes it");
        }
        (String::from_utf8(out).expect("text"), shown.legend())
    }

    #[test]
    fn without_colors_numbers_follow_the_tokens() {
        let (text, legend) = written(false);
        assert_eq!(text, " A⁷.¹²\n");
        assert!(legend.contains("7 to 32 of at most 32"), "{legend}");
    }

    #[test]
    fn colors_are_reset_before_each_line_break() {
        let (text, legend) = written(true);
        assert!(text.ends_with("\u{1b}[0m\n") && text.matches("\u{1b}[0m").count() == 2, "{text:?}");
        assert!(legend.contains("1 \u{1b}[") && legend.ends_with("32; here 7 to 32"), "{legend:?}");
    }
}
