// y = W·x + outer norm of the last fused sums, as new fused sums.
fn factor_out(at: Lane, m: u32) -> f32 {
    let start = (m * params.fused + 2u * params.y_stride) / 4u;
    var s = vec2<f32>();
    for (var i = at.index; 2u * i < params.parts; i += lanes_at_work()) {
        let two = last[start + i];
        s += two.xy + select(vec2<f32>(), two.zw, 2u * i + 1u < params.parts);
    }
    return norm_factors(total_over_lanes(at, s)).x;
}

// `norms` holds the weights of the outer norm of the last fused sums, those of the outer norm of the new ones, and the product of both norms' weights of the
// new ones.
fn emit(m: u32, n: u32, v: vec4<f32>, factor: f32) -> vec2<f32> {
    let stride = params.y_stride / 4u;
    let place = (params.first + n) / 4u;
    let row = m * params.made / 4u;
    let t = v + factor * last[m * params.fused / 4u + place] * select(vec4(1.0), norms[place], params.outer != 0u);
    let w = t * norms[stride + place];
    y[row + place] = t;
    y[row + stride + place] = t * norms[2u * stride + place];
    return vec2(dot(t, t), dot(w, w));
}
