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
const DEPTH: u32 = 16u;

var<workgroup> xs: array<f32, TILE * DEPTH>;
var<workgroup> ws: array<f32, TILE * DEPTH>;

// Records are for few rows.
struct Lane {
    index: u32,
}

fn keep(into_x: bool, place: u32, v: Eight) {
    for (var i = 0u; i < 4u; i += 1u) {
        if (into_x) {
            xs[place + i * TILE] = v.lo[i];
            xs[place + (i + 4u) * TILE] = v.hi[i];
        } else {
            ws[place + i * TILE] = v.lo[i];
            ws[place + (i + 4u) * TILE] = v.hi[i];
        }
    }
}

// A workgroup computes a tile of 64 rows by 64 outputs, 16 values of k at a time through workgroup memory; each of its 256
// lanes holds 4 × 4 sums in registers. Half of the lanes fetch x, the other half W.
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
    for (var c = 0u; c < params.chunks; c += 2u) {
        var v = Eight();
        if (c + half < params.chunks) {
            if (lane < 128u) {
                v = input(xrow, c + half);
            } else {
                v = weight(wrow, c + half);
            }
        }
        keep(lane < 128u, half * 8u * TILE + line, v);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += 1u) {
            let s = k * TILE;
            let b = vec4(ws[s + tx], ws[s + tx + 1u], ws[s + tx + 2u], ws[s + tx + 3u]);
            sums[0] += xs[s + ty] * b;
            sums[1] += xs[s + ty + 1u] * b;
            sums[2] += xs[s + ty + 2u] * b;
            sums[3] += xs[s + ty + 3u] * b;
        }
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
