fn put(row: u32, i: u32, t: vec4<f32>) {
    sum[row * params.quads + i] = t;
}

fn put_squares(at: Lane, row: u32, squares: vec4<f32>) {
}
