override LANES: u32;

struct Lane {
    index: u32,
}

fn lanes_at_work() -> u32 {
    return LANES;
}

fn total_over_lanes(at: Lane, v: vec2<f32>) -> vec2<f32> {
    return vec2(subgroupAdd(v.x), subgroupAdd(v.y));
}

// One subgroup computes 4·LANES outputs of up to M rows of x, each lane four neighboring ones. Lanes hold different values of x and exchange them by shuffles,
// so W is read once, in order, and no reduction is needed.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let first_row = group.x * M;
    let last_row = min(first_row + M, params.rows) - 1u;
    var resting = true;
    for (var m = 0u; m < M; m += 1u) {
        resting = resting && rows[min(first_row + m, last_row)].live == 0u;
    }
    if (resting) {
        return;
    }
    let place = place_of(lane, first_row, last_row);
    let blocks = (params.chunks + 3u) / 4u;
    var sums = Sums();
    // Loops test their condition at the end: otherwise software drivers run one more iteration without active lanes.
    var b = 0u;
    loop {
        add_block(&sums, place, lane, group.y, blocks, b);
        continuing {
            b += 1u;
            break if b >= blocks;
        }
    }
    let at = Lane(lane);
    let n = 4u * (group.y * LANES + lane);
    let real = vec4(n) + vec4(0u, 1u, 2u, 3u) < vec4(params.n);
    var row = first_row;
    loop {
        let m = row - first_row;
        let factor = factor_in(at, row);
        let rest = factor_out(at, row);
        var squares = vec2<f32>();
        if (rows[row].live != 0u && n < params.n_padded) {
            let v = vec4(total(sums.a, m), total(sums.b, m), total(sums.c, m), total(sums.d, m));
            squares = emit(row, n, select(vec4<f32>(), v * factor, real), rest);
        }
        if (FUSED) {
            let all = total_over_lanes(at, squares);
            if (lane == 0u && rows[row].live != 0u) {
                emit_squares(row, params.first / (4u * LANES) + group.y, all);
            }
        }
        continuing {
            row += 1u;
            break if row > last_row;
        }
    }
}
