fn chunk_at(at: vec2<u32>, row: u32, chunk: u32) -> Eight {
    return eight_of_f32(unit_of(at, row, 2u * chunk), unit_of(at, row, 2u * chunk + 1u));
}
