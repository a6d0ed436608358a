// The result as fused sums with one group of outputs and no outer norm: the sum itself, the sum times the weights of the next norm, and the sum of its squares.
fn put(row: u32, i: u32, t: vec4<f32>) {
    let start = row * params.made / 4u;
    sum[start + i] = t;
    sum[start + params.quads + i] = t * next[i];
}

fn put_squares(at: Lane, row: u32, squares: vec4<f32>) {
    let sums = reduce_sum4(at, squares);
    if (at.index == 0u) {
        let total = sums.x + sums.y + sums.z + sums.w;
        sum[row * params.made / 4u + 2u * params.quads] = vec4(total, total, 0.0, 0.0);
    }
}
