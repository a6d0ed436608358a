fn silu(v: f32) -> f32 {
    return v / (1.0 + exp(-v));
}

// Rows of W alternate gate, up, gate, up: four sums make two outputs.
fn emit(m: u32, n: u32, v: vec4<f32>, factor: f32) -> vec2<f32> {
    y[(m * params.y_stride + (params.first + n) / 2u) / 2u] = vec2(silu(v.x) * v.y, silu(v.z) * v.w);
    return vec2<f32>();
}
