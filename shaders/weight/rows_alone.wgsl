// Float dtypes have no factors.
fn raw_chunk(unit: Unit, j: u32) -> Eight {
    return chunk_of(unit, j);
}

fn weigh(sum: f32, unit: Unit, w: Eight, v: Eight, all: f32) -> f32 {
    return with_eight(sum, w, v);
}
