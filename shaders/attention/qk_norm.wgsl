override WG: u32;

// One workgroup per row and part: the queries, or the keys, which follow the queries in both qkv and w. No lane overwrites values that another lane reads.
fn run(at: Lane) {
    let row = at.group.x;
    if (rows[row].live == 0u) {
        return;
    }
    let keys = at.group.y == 1u;
    let first = select(0u, params.q_pairs, keys);
    let pairs = select(params.q_pairs, params.k_pairs, keys);
    let start = row * params.row_pairs + first;
    var squares = vec2<f32>();
    for (var i = at.index; i < pairs; i += WG) {
        let v = qkv[start + i];
        squares += v * v;
    }
    let sums = reduce_sum4(at, vec4(squares, 0.0, 0.0));
    let scale = inverseSqrt((sums.x + sums.y) / f32(2u * pairs) + params.eps);
    for (var i = at.index; i < pairs; i += WG) {
        qkv[start + i] = qkv[start + i] * scale * w[first + i];
    }
}
