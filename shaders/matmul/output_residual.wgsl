// The residual may be t of fused sums, so it has its own row stride.
fn emit(m: u32, n: u32, v: vec4<f32>, factor: f32) -> vec2<f32> {
    let place = params.first + n;
    y[(m * params.y_stride + place) / 4u] = v + residual[(m * params.fused + place) / 4u];
    return vec2<f32>();
}
