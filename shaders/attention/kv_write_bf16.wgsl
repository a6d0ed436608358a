// Rounds to nearest, ties to even.
fn bf16_bits(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

fn store_pair(pair: u32, v: vec2<f32>) {
    kv[pair] = bf16_bits(v.x) | (bf16_bits(v.y) << 16u);
}
