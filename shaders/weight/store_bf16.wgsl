// Rounds to nearest, ties to even.
fn bf16_bits(v: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(v);
    return (bits + 0x7fffu + ((bits >> vec4(16u)) & vec4(1u))) >> vec4(16u);
}

fn store(chunk: u32, v: Eight) {
    let even = bf16_bits(vec4(v.lo.xz, v.hi.xz));
    let odd = bf16_bits(vec4(v.lo.yw, v.hi.yw));
    w[chunk] = even | (odd << vec4(16u));
}
