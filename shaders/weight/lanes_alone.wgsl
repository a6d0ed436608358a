// Texel of a unit of one of the lane's four rows. A block never crosses a line of the texture.
fn unit_of(at: vec2<u32>, row: u32, unit: u32) -> vec4<u32> {
    return textureLoad(w, vec2(at.x + (4u * unit + row) * LANES, at.y));
}

// Adds 32 columns of four rows of W. Texels are ordered by unit, row, lane.
fn add_block(sums: ptr<function, Sums>, place: Place, lane: u32, group: u32, blocks: u32, b: u32) {
    let first = (group * blocks + b) * 4u * UNITS * LANES;
    let at = vec2(first % TEXTURE_WIDTH + lane, first / TEXTURE_WIDTH);
    let x = values_of(place, b);
    add_chunk(sums, place, x, b, 0u, chunk_at(at, 0u, 0u), chunk_at(at, 1u, 0u), chunk_at(at, 2u, 0u), chunk_at(at, 3u, 0u));
    add_chunk(sums, place, x, b, 1u, chunk_at(at, 0u, 1u), chunk_at(at, 1u, 1u), chunk_at(at, 2u, 1u), chunk_at(at, 3u, 1u));
    add_chunk(sums, place, x, b, 2u, chunk_at(at, 0u, 2u), chunk_at(at, 1u, 2u), chunk_at(at, 2u, 2u), chunk_at(at, 3u, 2u));
    add_chunk(sums, place, x, b, 3u, chunk_at(at, 0u, 3u), chunk_at(at, 1u, 3u), chunk_at(at, 2u, 3u), chunk_at(at, 3u, 3u));
}
