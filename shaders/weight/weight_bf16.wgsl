// A bf16 is the upper half of an f32, so bit operations unpack it exactly on every backend.
fn weight(chunk: u32) -> Eight {
    let p = w[chunk];
    let even = bitcast<vec4<f32>>(p << vec4(16u));
    let odd = bitcast<vec4<f32>>(p & vec4(0xffff0000u));
    return Eight(vec4(even.x, odd.x, even.y, odd.y), vec4(even.z, odd.z, even.w, odd.w));
}
