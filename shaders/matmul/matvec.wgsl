override WG: u32;

fn lanes_at_work() -> u32 {
    return WG;
}

fn total_over_lanes(at: Lane, v: vec2<f32>) -> vec2<f32> {
    return reduce_sum4(at, vec4(v, 0.0, 0.0)).xy;
}

fn keep_real(n: u32, v: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), v, vec4(n) + vec4(0u, 1u, 2u, 3u) < vec4(params.n));
}

// One workgroup computes four outputs of up to M rows: its lanes share the chunks of four rows of W, read each once, and use it for all M rows of x. The order
// of summation does not depend on M.
fn run(at: Lane) {
    let n = 4u * (at.group.x + at.group.y * params.groups_x);
    let first_row = at.group.z * M;
    let last_row = min(first_row + M, params.rows) - 1u;
    if (n >= params.n_padded) {
        return;
    }
    var resting = true;
    for (var row = first_row; row <= last_row; row += 1u) {
        resting = resting && rows[row].live == 0u;
    }
    if (resting) {
        return;
    }
    let last = params.n - 1u;
    let n4 = min(vec4(n) + vec4(0u, 1u, 2u, 3u), vec4(last));
    var sums: array<vec4<f32>, M>;
    for (var u = at.index; u * UNIT < params.chunks; u += WG) {
        let a = unit_at(n4.x, u);
        let b = unit_at(n4.y, u);
        let d = unit_at(n4.z, u);
        let e = unit_at(n4.w, u);
        add_unit(&sums, first_row, last_row, u, a, b, d, e);
    }
    for (var m = 0u; m < M; m += 1u) {
        let row = min(first_row + m, last_row);
        let total = reduce_sum4(at, sums[m]) * factor_in(at, row);
        let factor = factor_out(at, row);
        if (at.index == m && first_row + m <= last_row && rows[row].live != 0u) {
            let squares = emit(row, n, keep_real(n, total), factor);
            if (FUSED) {
                emit_squares(row, (params.first + n) / 4u, squares);
            }
        }
    }
}
