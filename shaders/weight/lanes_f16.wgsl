fn chunk_at(at: vec2<u32>, row: u32, chunk: u32) -> Eight {
    return eight_of_f16(unit_of(at, row, chunk));
}
