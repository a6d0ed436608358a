// Eight neighboring values: the amount that a lane loads at once from a row of weights or activations.
struct Eight {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

fn dot8(a: Eight, b: Eight) -> f32 {
    return dot(a.lo, b.lo) + dot(a.hi, b.hi);
}

// Adds eight products to a sum, one after another: two instructions fewer than adding a dot product.
fn with_eight(sum: f32, a: Eight, b: Eight) -> f32 {
    let lo = fma(a.lo.w, b.lo.w, fma(a.lo.z, b.lo.z, fma(a.lo.y, b.lo.y, fma(a.lo.x, b.lo.x, sum))));
    return fma(a.hi.w, b.hi.w, fma(a.hi.z, b.hi.z, fma(a.hi.y, b.hi.y, fma(a.hi.x, b.hi.x, lo))));
}

fn scaled_eight(v: Eight, factor: f32) -> Eight {
    return Eight(v.lo * factor, v.hi * factor);
}

fn add_eight(sum: Eight, v: Eight, factor: f32) -> Eight {
    return Eight(fma(v.lo, vec4(factor), sum.lo), fma(v.hi, vec4(factor), sum.hi));
}

fn sum8(v: Eight) -> f32 {
    return dot(v.lo, vec4(1.0)) + dot(v.hi, vec4(1.0));
}

// Unpacks four pairs of bf16. A bf16 is the upper half of an f32, so bit operations unpack it exactly on every backend.
fn eight_of_bf16(p: vec4<u32>) -> Eight {
    let even = bitcast<vec4<f32>>(p << vec4(16u));
    let odd = bitcast<vec4<f32>>(p & vec4(0xffff0000u));
    return Eight(vec4(even.x, odd.x, even.y, odd.y), vec4(even.z, odd.z, even.w, odd.w));
}

// Unpacks two pairs of bf16.
fn four_of_bf16(p: vec2<u32>) -> vec4<f32> {
    let even = bitcast<vec2<f32>>(p << vec2(16u));
    let odd = bitcast<vec2<f32>>(p & vec2(0xffff0000u));
    return vec4(even.x, odd.x, even.y, odd.y);
}

// Unpacks four pairs of f16.
fn eight_of_f16(p: vec4<u32>) -> Eight {
    return Eight(vec4(unpack2x16float(p.x), unpack2x16float(p.y)), vec4(unpack2x16float(p.z), unpack2x16float(p.w)));
}

fn eight_of_f32(lo: vec4<u32>, hi: vec4<u32>) -> Eight {
    return Eight(bitcast<vec4<f32>>(lo), bitcast<vec4<f32>>(hi));
}

// Rounds to nearest, ties to even.
fn bf16_upper(v: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(v);
    return (bits + 0x7fffu + ((bits >> vec4(16u)) & vec4(1u))) >> vec4(16u);
}

fn bf16_of_eight(v: Eight) -> vec4<u32> {
    let even = bf16_upper(vec4(v.lo.xz, v.hi.xz));
    let odd = bf16_upper(vec4(v.lo.yw, v.hi.yw));
    return even | (odd << vec4(16u));
}
