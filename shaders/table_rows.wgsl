// Rows of the table. Mesa's software driver makes a shader of its own, at every launch, for a loop whose end it finds in the parameters alone.
fn table_rows() -> u32 {
    return min(params.rows, arrayLength(&rows));
}
