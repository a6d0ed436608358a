override WG: u32;

// One workgroup per row: copies it, multiplies it by the weights of the norm that follows, and sums its squares.
fn run(at: Lane) {
    let row = at.group.x;
    if (rows[row].live == 0u) {
        return;
    }
    let start = row * params.made / 4u;
    var squares = vec4<f32>();
    for (var i = at.index; i < params.quads; i += WG) {
        let v = x[row * params.quads + i];
        squares += v * v;
        y[start + i] = v;
        y[start + params.quads + i] = v * w[i];
    }
    let sums = reduce_sum4(at, squares);
    if (at.index == 0u) {
        let sum = sums.x + sums.y + sums.z + sums.w;
        y[start + 2u * params.quads] = vec4(sum, sum, 0.0, 0.0);
    }
}
