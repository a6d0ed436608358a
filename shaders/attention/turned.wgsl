// One pair of q, k or v of a row, with its bias; q and k are rotated by the position's angle. Branch-free: every load is in bounds, and pairs beyond the head
// are zero.
fn turned_pair(row: u32, position: u32, head: u32, pair: u32, turns: bool) -> vec2<f32> {
    let half = params.head_dim / 2u;
    let real = min(pair, half - 1u);
    let added = turns && params.biased != 0u;
    let v = qkv[row * (params.qkv_stride / 2u) + head * half + real]
        + select(vec2<f32>(), bias[select(0u, head * half + real, added)], added);
    let angle = select(vec2(1.0, 0.0), freqs[position * half + real], turns);
    return select(vec2<f32>(), vec2(v.x * angle.x - v.y * angle.y, v.y * angle.x + v.x * angle.y), pair < half);
}

fn turned_chunk(row: u32, position: u32, head: u32, c: u32, turns: bool) -> Eight {
    let a = turned_pair(row, position, head, 4u * c, turns);
    let b = turned_pair(row, position, head, 4u * c + 1u, turns);
    let d = turned_pair(row, position, head, 4u * c + 2u, turns);
    let e = turned_pair(row, position, head, 4u * c + 3u, turns);
    return Eight(vec4(a, b), vec4(d, e));
}
