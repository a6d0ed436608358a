// Number of quads of rows, and of outputs, whose sums a lane holds.
const QUADS: u32 = TILE / 64u;
const SUMS: u32 = 4u * QUADS * QUADS;

// One workgroup computes a tile of TILE rows by TILE outputs, one slice of k at a time through workgroup memory. Each of its 256 lanes holds the sums of QUADS
// quads of rows by QUADS quads of outputs in registers; a lane's quads are 64 apart, so that neighboring lanes read neighboring quads.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first_n = group.x * TILE;
    let first_row = group.y * TILE;
    if (rests(first_row)) {
        return;
    }
    // Two lanes per line of a slice. In a small tile, half of the lanes fetch x and the other half W; in a large one, every lane fetches both.
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
        emit_inside(first_row + ty + i % 4u + 64u * (i / 4u / QUADS), first_n + tx + 64u * (i / 4u % QUADS), sums[i]);
    }
}
