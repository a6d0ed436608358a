// The chunk in texel `i` of a block. A block never crosses a line of the texture.
fn chunk_at(at: vec2<u32>, i: u32) -> Eight {
    return eight_of_bf16(textureLoad(w, vec2(at.x + i * LANES, at.y)));
}

// 32 columns of four rows of W: texels are ordered by chunk, row, lane.
fn add_block(sums: ptr<function, Sums>, place: Place, lane: u32, group: u32, blocks: u32, b: u32) {
    let first = (group * blocks + b) * 16u * LANES;
    let at = vec2(first % TEXTURE_WIDTH + lane, first / TEXTURE_WIDTH);
    let x = values_of(place, b);
    add_chunk(sums, place, x, b, 0u, chunk_at(at, 0u), chunk_at(at, 1u), chunk_at(at, 2u), chunk_at(at, 3u));
    add_chunk(sums, place, x, b, 1u, chunk_at(at, 4u), chunk_at(at, 5u), chunk_at(at, 6u), chunk_at(at, 7u));
    add_chunk(sums, place, x, b, 2u, chunk_at(at, 8u), chunk_at(at, 9u), chunk_at(at, 10u), chunk_at(at, 11u));
    add_chunk(sums, place, x, b, 3u, chunk_at(at, 12u), chunk_at(at, 13u), chunk_at(at, 14u), chunk_at(at, 15u));
}
