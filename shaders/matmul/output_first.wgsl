fn factor_out(at: Lane, m: u32) -> f32 {
    return 1.0;
}

// y = W·x, as fused sums without an outer norm. `norms` holds the weights of the inner norm.
fn emit(m: u32, n: u32, v: vec4<f32>, factor: f32) -> vec2<f32> {
    let place = (params.first + n) / 4u;
    let row = m * params.made / 4u;
    y[row + place] = v;
    y[row + params.y_stride / 4u + place] = v * norms[place];
    return vec2(dot(v, v));
}
