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

const TILE: u32 = 64u * QUADS;

// Records are for few rows.
struct Lane {
    index: u32,
}

// A workgroup computes a tile of TILE rows by TILE outputs, a slice of k at a time through workgroup memory. Each of its 256 lanes holds the sums of
// QUADS quads of rows by QUADS quads of outputs in registers; the quads of a lane lie 64 apart, so that lanes read neighbouring ones.
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
    // Two lanes per line of a slice. In a small tile half of them fetch x and the others W, in a large one all of them both.
    let line = lane / 2u % TILE;
    let half = lane % 2u;
    let xrow = min(first_row + line, params.rows - 1u);
    let wrow = min(first_n + line, params.n - 1u);
    let ty = lane / 16u * 4u;
    let tx = lane % 16u * 4u;
    var sums: array<vec4<f32>, SUMS>;
    for (var c = 0u; c < params.chunks; c += CHUNKS) {
        if (QUADS == 2u || lane < 128u) {
            fetch_x(xrow, c, half, line);
        }
        if (QUADS == 2u || lane >= 128u) {
            fetch_w(wrow, c, half, line);
        }
        workgroupBarrier();
        add_slice(&sums, ty, tx, params.chunks - c);
        workgroupBarrier();
    }
    for (var i = 0u; i < SUMS; i += 1u) {
        let row = first_row + row_of(i) + ty;
        let n = first_n + column_of(i) + tx;
        if (n < params.n_padded && row < params.rows && rows[row].live != 0u) {
            let real = vec4(n) + vec4(0u, 1u, 2u, 3u) < vec4(params.n);
            emit(row, n, select(vec4<f32>(), sums[i], real), 1.0);
        }
    }
}

// Where the sums of a lane belong, seen from its first.
fn row_of(i: u32) -> u32 {
    return i % 4u + 64u * (i / 4u / QUADS);
}

fn column_of(i: u32) -> u32 {
    return 64u * (i / 4u % QUADS);
}
