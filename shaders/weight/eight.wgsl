// Eight neighbouring values: what a lane takes at once from a row of weights or activations.
struct Eight {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

fn dot8(a: Eight, b: Eight) -> f32 {
    return dot(a.lo, b.lo) + dot(a.hi, b.hi);
}
