//! Markdown tables.

use std::io::Write;

use anyhow::Result;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::visible;

/// Prints a table. The first `words` columns are left-aligned, the rest, which hold numbers, right-aligned.
pub(crate) fn table(
    out: &mut impl Write,
    heads: &[&str],
    words: usize,
    rows: impl Iterator<Item = Vec<String>>,
) -> Result<()> {
    let mut table = Table::new();
    table
        .load_style(ASCII_MARKDOWN)
        .set_header(heads.to_vec())
        .add_rows(rows.map(|cells| cells.iter().map(|cell| visible::name(cell).into_owned()).collect::<Vec<_>>()));
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "\n{table}")?;
    Ok(())
}
