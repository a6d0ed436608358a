// A slice of 16 values of k, in the number format of the products.
const CHUNKS: u32 = 2u;
const DEPTH: u32 = 16u;

var<workgroup> xs: array<vec4<Number>, TILE / 4u * DEPTH>;
var<workgroup> ws: array<vec4<Number>, TILE / 4u * DEPTH>;

fn fetch_x(row: u32, c: u32, half: u32, line: u32) {
    var v = Eight();
    if (c + half < params.chunks) {
        v = input(row, c + half);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        xs[((half * 8u + i) * TILE + line) / 4u][line % 4u] = Number(v.lo[i]);
        xs[((half * 8u + i + 4u) * TILE + line) / 4u][line % 4u] = Number(v.hi[i]);
    }
}

fn fetch_w(row: u32, c: u32, half: u32, line: u32) {
    var v = Eight();
    if (c + half < params.chunks) {
        v = weight(row, c + half);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        ws[((half * 8u + i) * TILE + line) / 4u][line % 4u] = Number(v.lo[i]);
        ws[((half * 8u + i + 4u) * TILE + line) / 4u][line % 4u] = Number(v.hi[i]);
    }
}
