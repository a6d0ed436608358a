//! Tables in Markdown.

/// Lines of cells under a heading.
#[derive(Default)]
pub struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<S: Into<String>>(heading: impl IntoIterator<Item = S>) -> Self {
        Self { lines: vec![heading.into_iter().map(Into::into).collect()] }
    }

    /// Adds a line.
    pub fn line(&mut self, cells: Vec<String>) {
        self.lines.push(cells);
    }

    /// Prints the table with aligned columns, followed by an empty line.
    pub fn print(&self) {
        let columns = self.lines.first().map_or(0, Vec::len);
        let width = |column: usize| self.lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (place, line) in self.lines.iter().enumerate() {
            let cells = line.iter().zip(&widths).enumerate();
            let cells = cells.map(|(i, (text, &w))| if i == 0 { format!("{text:<w$}") } else { format!("{text:>w$}") });
            println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
            if place == 0 {
                let rules = widths.iter().enumerate();
                let rules = rules.map(|(i, w)| if i == 0 { "-".repeat(w + 2) } else { "-".repeat(w + 1) + ":" });
                println!("|{}|", rules.collect::<Vec<_>>().join("|"));
            }
        }
        println!();
    }
}

/// Formats a number with three significant digits.
pub fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 99.95 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The median; `None` if there are no values.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
