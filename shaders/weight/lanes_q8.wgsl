fn texel_at(at: vec2<u32>, i: u32) -> vec4<u32> {
    return textureLoad(w, vec2(at.x + i * LANES, at.y));
}

// Adds 16 columns of four rows of W, one texel per row.
fn add_half(part: ptr<function, Sums>, place: Place, x: Values, b: u32, half: u32, at: vec2<u32>, s: Scales) {
    let p = texel_at(at, 4u * half);
    let q = texel_at(at, 4u * half + 1u);
    let r = texel_at(at, 4u * half + 2u);
    let t = texel_at(at, 4u * half + 3u);
    add_chunk(part, place, x, b, 2u * half, weigh(q8_chunk(p, 0u), s.a), weigh(q8_chunk(q, 0u), s.b), weigh(q8_chunk(r, 0u), s.c), weigh(q8_chunk(t, 0u), s.d));
    add_chunk(part, place, x, b, 2u * half + 1u, weigh(q8_chunk(p, 1u), s.a), weigh(q8_chunk(q, 1u), s.b), weigh(q8_chunk(r, 1u), s.c), weigh(q8_chunk(t, 1u), s.d));
}

// Adds 32 columns of four rows of W. Texels are ordered by half of the block, row, lane. A texel of scales serves two blocks.
fn add_block(sums: ptr<function, Sums>, place: Place, lane: u32, group: u32, blocks: u32, b: u32) {
    let first = (group * blocks + b) * 8u * LANES;
    let at = vec2(first % TEXTURE_WIDTH + lane, first / TEXTURE_WIDTH);
    let pair = texel(params.scales + (group * ((blocks + 1u) / 2u) + b / 2u) * LANES + lane);
    let halves = select(pair.xy, pair.zw, (b & 1u) == 1u);
    let s = Scales(scale_of_q8(halves.x), scale_of_q8(halves.x >> 16u), scale_of_q8(halves.y), scale_of_q8(halves.y >> 16u));
    let x = values_of(place, b);
    var part = open_block(*sums);
    add_half(&part, place, x, b, 0u, at, s);
    add_half(&part, place, x, b, 1u, at, s);
    close_block(sums, part, x, s);
}
