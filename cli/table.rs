//! Tables in Markdown.

use std::io::Write;

use anyhow::Result;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// Prints a table whose first columns hold words, the others numbers.
pub(crate) fn table(
    out: &mut impl Write,
    heads: &[&str],
    words: usize,
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<()> {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(heads.to_vec()).add_rows(rows);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "\n{table}")?;
    Ok(())
}
