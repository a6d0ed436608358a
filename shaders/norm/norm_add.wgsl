override WG: u32;

// One workgroup per row reads y twice, the second time from cache. The padding of x and y is zero, so it adds nothing to the squares and stays zero in the sum.
fn run(at: Lane) {
    let row = at.group.x;
    if (rows[row].live == 0u) {
        return;
    }
    let start = row * params.quads;
    var squares = vec4<f32>();
    for (var i = at.index; i < params.quads; i += WG) {
        let v = y[start + i];
        squares += v * v;
    }
    let sums = reduce_sum4(at, squares);
    let mean = (sums.x + sums.y + sums.z + sums.w) / f32(params.n);
    let scale = inverseSqrt(mean + params.eps);
    var made = vec4<f32>();
    for (var i = at.index; i < params.quads; i += WG) {
        let t = x[row * params.x_quads + i] + y[start + i] * scale * w[i];
        made += t * t;
        put(row, i, t);
    }
    put_squares(at, row, made);
}
