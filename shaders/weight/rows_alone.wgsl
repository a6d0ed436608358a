// Values that stand alone have no factors.
fn raw_chunk(unit: Unit, j: u32) -> Eight {
    return chunk_of(unit, j);
}

fn weigh(unit: Unit, product: f32, all: f32) -> f32 {
    return product;
}
