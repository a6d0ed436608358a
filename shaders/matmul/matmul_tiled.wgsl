struct Params {
    rows: u32,
    n: u32,
    n_padded: u32,
    first: u32,
    chunks: u32,
    y_stride: u32,
    groups_x: u32,
    scales: u32,
    record: u32,
    parts: u32,
    width: u32,
    eps: f32,
    outer: u32,
    made: u32,
}

const TILE: u32 = 64u;

// Records are for few rows.
struct Lane {
    index: u32,
}

// A workgroup computes a tile of 64 rows by 64 outputs, a slice of k at a time through workgroup memory; each of its 256 lanes holds 4 × 4 sums in
// registers. Half of the lanes fetch x, the other half W.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_n = group.x * TILE;
    let first_row = group.y * TILE;
    var resting = true;
    for (var row = first_row; resting && row < min(first_row + TILE, params.rows); row += 1u) {
        resting = rows[row].live == 0u;
    }
    if (resting) {
        return;
    }
    let line = (lane % 128u) / 2u;
    let half = lane % 2u;
    let xrow = min(first_row + line, params.rows - 1u);
    let wrow = min(first_n + line, params.n - 1u);
    let ty = lane / 16u * 4u;
    let tx = lane % 16u * 4u;
    var sums: array<vec4<f32>, 4>;
    for (var c = 0u; c < params.chunks; c += CHUNKS) {
        if (lane < 128u) {
            fetch_x(xrow, c, half, line);
        } else {
            fetch_w(wrow, c, half, line);
        }
        workgroupBarrier();
        add_slice(&sums, ty, tx);
        workgroupBarrier();
    }
    let n = first_n + tx;
    if (n >= params.n_padded) {
        return;
    }
    let real = vec4(n) + vec4(0u, 1u, 2u, 3u) < vec4(params.n);
    for (var i = 0u; i < 4u; i += 1u) {
        let row = first_row + ty + i;
        if (row < params.rows && rows[row].live != 0u) {
            emit(row, n, select(vec4<f32>(), sums[i], real), 1.0);
        }
    }
}
