// A slice of 16 values of k, in f32.
const CHUNKS: u32 = 2u;
const DEPTH: u32 = 16u;

var<workgroup> xs: array<f32, TILE * DEPTH>;
var<workgroup> ws: array<f32, TILE * DEPTH>;

fn fetch_x(row: u32, c: u32, half: u32, line: u32) {
    var v = Eight();
    if (c + half < params.chunks) {
        v = input(row, c + half);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        xs[(half * 8u + i) * TILE + line] = v.lo[i];
        xs[(half * 8u + i + 4u) * TILE + line] = v.hi[i];
    }
}

fn fetch_w(row: u32, c: u32, half: u32, line: u32) {
    var v = Eight();
    if (c + half < params.chunks) {
        v = weight(row, c + half);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        ws[(half * 8u + i) * TILE + line] = v.lo[i];
        ws[(half * 8u + i + 4u) * TILE + line] = v.hi[i];
    }
}

fn add_slice(sums: ptr<function, array<vec4<f32>, 4>>, ty: u32, tx: u32) {
    for (var k = 0u; k < DEPTH; k += 1u) {
        let s = k * TILE;
        let b = vec4(ws[s + tx], ws[s + tx + 1u], ws[s + tx + 2u], ws[s + tx + 3u]);
        (*sums)[0] += xs[s + ty] * b;
        (*sums)[1] += xs[s + ty + 1u] * b;
        (*sums)[2] += xs[s + ty + 2u] * b;
        (*sums)[3] += xs[s + ty + 3u] * b;
    }
}
