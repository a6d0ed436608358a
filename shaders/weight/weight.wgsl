// A chunk of a row of W.
fn weight(row: u32, chunk: u32) -> Eight {
    return chunk_of(unit_at(row, chunk / UNIT), chunk % UNIT);
}
