// The launch sees all keys, so it writes attended values `[rows, heads·head_dim]`. In place of the softmax state, this writes the zeros that pad a row.
fn put_softmax(row: u32, split: u32, lane: u32, alive: bool, largest: f32, total: f32) {
    let width = params.heads * params.head_dim / 2u;
    let padding = params.y_stride / 2u - width;
    if (alive && head == 0u && lane < padding) {
        partial_sums[row * (params.y_stride / 2u) + width + lane] = vec2<f32>();
    }
}

fn put_real(start: u32, pair: u32, v: vec2<f32>) {
    if (pair < params.head_dim / 2u) {
        partial_sums[start + pair] = v;
    }
}

fn start_of(row: u32) -> u32 {
    return (row * params.y_stride + head * params.head_dim) / 2u;
}

fn put_chunk(row: u32, split: u32, c: u32, alive: bool, v: Eight) {
    if (alive && c < params.chunks) {
        let start = start_of(row);
        put_real(start, 4u * c, v.lo.xy);
        put_real(start, 4u * c + 1u, v.lo.zw);
        put_real(start, 4u * c + 2u, v.hi.xy);
        put_real(start, 4u * c + 3u, v.hi.zw);
    }
}

fn put_quad(row: u32, split: u32, quad: u32, alive: bool, v: vec4<f32>) {
    if (alive) {
        let start = start_of(row);
        put_real(start, 2u * quad, v.xy);
        put_real(start, 2u * quad + 1u, v.zw);
    }
}

fn factor_of(total: f32) -> f32 {
    return 1.0 / max(total, 1e-30);
}
