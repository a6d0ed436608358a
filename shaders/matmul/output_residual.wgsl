fn emit(m: u32, n: u32, v: vec4<f32>, factor: f32) -> vec2<f32> {
    let place = (m * params.y_stride + params.first + n) / 4u;
    y[place] = v + residual[place];
    return vec2<f32>();
}
