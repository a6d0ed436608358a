// Declarations of all tiled kernels. Fused sums are not supported: they are for few rows.
struct Lane {
    index: u32,
}

// Whether a tile has no active row.
fn rests(first_row: u32) -> bool {
    for (var row = first_row; row < min(first_row + TILE, params.rows); row += 1u) {
        if (rows[row].live != 0u) {
            return false;
        }
    }
    return true;
}

// Emits four sums of a tile, which may lie past the last row or output.
fn emit_inside(row: u32, n: u32, v: vec4<f32>) {
    if (n < params.n_padded && row < params.rows && rows[row].live != 0u) {
        let real = vec4(n) + vec4(0u, 1u, 2u, 3u) < vec4(params.n);
        emit(row, n, select(vec4<f32>(), v, real), 1.0);
    }
}
