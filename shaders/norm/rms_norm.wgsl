override WG: u32;

// One workgroup per row. The padding of x is zero, so it adds nothing to the sum and stays zero in y.
fn run(at: Lane) {
    let row = at.group.x;
    if (rows[row].live == 0u) {
        return;
    }
    let start = row * params.x_quads;
    var squares = vec4<f32>();
    for (var i = at.index; i < params.quads; i += WG) {
        let v = x[start + i];
        squares += v * v;
    }
    let sums = reduce_sum4(at, squares);
    let mean = (sums.x + sums.y + sums.z + sums.w) / f32(params.n);
    let scale = inverseSqrt(mean + params.eps);
    for (var i = at.index; i < params.quads; i += WG) {
        y[row * params.quads + i] = x[start + i] * scale * w[i];
    }
}
