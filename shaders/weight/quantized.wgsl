// Blocks of 32 weights with a common scale. Unsigned numbers are unpacked into the mantissa of a number between 1 and 2, which takes a shift and a mask but no
// conversion; a factor and an offset turn it into the weight. Scales are stored 4096 times too large, because f16 has few small numbers.

// Unpacks four bytes to 1 + u/256.
fn q8_raw(p: u32) -> vec4<f32> {
    let bits = vec4(p << 15u, p << 7u, p >> 1u, p >> 9u);
    return bitcast<vec4<f32>>((bits & vec4(0x7f8000u)) | vec4(0x3f800000u));
}

// Unpacks chunk 0 or 1 of 16 bytes.
fn q8_chunk(p: vec4<u32>, j: u32) -> Eight {
    let half = select(p.xy, p.zw, j == 1u);
    return Eight(q8_raw(half.x), q8_raw(half.y));
}

// Unpacks chunk j of 32 nibbles to 1 + u/16.
fn q4_chunk(p: vec4<u32>, j: u32) -> Eight {
    let v = p[j];
    let lo = vec4(v << 19u, v << 15u, v << 11u, v << 7u);
    let hi = vec4(v << 3u, v >> 1u, v >> 5u, v >> 9u);
    let mask = vec4(0x780000u);
    let one = vec4(0x3f800000u);
    return Eight(bitcast<vec4<f32>>((lo & mask) | one), bitcast<vec4<f32>>((hi & mask) | one));
}

// Factor and offset that turn an unpacked number into (u - 128) times the scale.
fn scale_of_q8(half: u32) -> vec2<f32> {
    return unpack2x16float(half).x * vec2(0.0625, -0.09375);
}

// Factor and offset that turn an unpacked number into (u - 8) times the scale.
fn scale_of_q4(half: u32) -> vec2<f32> {
    return unpack2x16float(half).x * vec2(0.00390625, -0.005859375);
}

// Factor and offset that turn an unpacked number into u times the scale (first half) plus the minimum (second half).
fn scale_of_q4_1(halves: u32) -> vec2<f32> {
    let v = unpack2x16float(halves);
    return vec2(v.x * 0.00390625, v.y * 0.000244140625 - v.x * 0.00390625);
}

fn scaled(v: Eight, scale: vec2<f32>) -> Eight {
    return Eight(fma(v.lo, vec4(scale.x), vec4(scale.y)), fma(v.hi, vec4(scale.x), vec4(scale.y)));
}
