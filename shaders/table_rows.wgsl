// Rows of the table. `arrayLength` is there because Mesa's software driver compiles another shader at every launch for a loop bounded by parameters alone.
fn table_rows() -> u32 {
    return min(params.rows, arrayLength(&rows));
}
