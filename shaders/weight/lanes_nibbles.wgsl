// Adds 32 columns of four rows of W, one texel per row.
fn add_block(sums: ptr<function, Sums>, place: Place, lane: u32, group: u32, blocks: u32, b: u32) {
    let first = (group * blocks + b) * 4u * LANES;
    let at = vec2(first % TEXTURE_WIDTH + lane, first / TEXTURE_WIDTH);
    let p = textureLoad(w, at);
    let q = textureLoad(w, vec2(at.x + LANES, at.y));
    let r = textureLoad(w, vec2(at.x + 2u * LANES, at.y));
    let t = textureLoad(w, vec2(at.x + 3u * LANES, at.y));
    let s = scales_of(lane, group, blocks, b);
    let x = values_of(place, b);
    var part = open_block(*sums);
    add_chunk(&part, place, x, b, 0u, weigh(q4_chunk(p, 0u), s.a), weigh(q4_chunk(q, 0u), s.b), weigh(q4_chunk(r, 0u), s.c), weigh(q4_chunk(t, 0u), s.d));
    add_chunk(&part, place, x, b, 1u, weigh(q4_chunk(p, 1u), s.a), weigh(q4_chunk(q, 1u), s.b), weigh(q4_chunk(r, 1u), s.c), weigh(q4_chunk(t, 1u), s.d));
    add_chunk(&part, place, x, b, 2u, weigh(q4_chunk(p, 2u), s.a), weigh(q4_chunk(q, 2u), s.b), weigh(q4_chunk(r, 2u), s.c), weigh(q4_chunk(t, 2u), s.d));
    add_chunk(&part, place, x, b, 3u, weigh(q4_chunk(p, 3u), s.a), weigh(q4_chunk(q, 3u), s.b), weigh(q4_chunk(r, 3u), s.c), weigh(q4_chunk(t, 3u), s.d));
    close_block(sums, part, x, s);
}
