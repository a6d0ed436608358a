// A slice of 16 values of k, whose products are added in f16; slices are added in f32. Only for small tiles.
const CHUNKS: u32 = 2u;
const DEPTH: u32 = 16u;

var<workgroup> xs: array<vec4<f16>, TILE / 4u * DEPTH>;
var<workgroup> ws: array<vec4<f16>, TILE / 4u * DEPTH>;

fn fetch_x(row: u32, c: u32, half: u32, line: u32) {
    var v = Eight();
    if (c + half < params.chunks) {
        v = input(row, c + half);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        xs[((half * 8u + i) * TILE + line) / 4u][line % 4u] = f16(v.lo[i]);
        xs[((half * 8u + i + 4u) * TILE + line) / 4u][line % 4u] = f16(v.hi[i]);
    }
}

fn fetch_w(row: u32, c: u32, half: u32, line: u32) {
    var v = Eight();
    if (c + half < params.chunks) {
        v = weight(row, c + half);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        ws[((half * 8u + i) * TILE + line) / 4u][line % 4u] = f16(v.lo[i]);
        ws[((half * 8u + i + 4u) * TILE + line) / 4u][line % 4u] = f16(v.hi[i]);
    }
}

fn add_slice(sums: ptr<function, array<vec4<f32>, SUMS>>, ty: u32, tx: u32, left: u32) {
    var part: array<vec4<f16>, 4>;
    for (var k = 0u; k < DEPTH; k += 1u) {
        let x = xs[(k * TILE + ty) / 4u];
        let w = ws[(k * TILE + tx) / 4u];
        part[0] = fma(vec4(x.x), w, part[0]);
        part[1] = fma(vec4(x.y), w, part[1]);
        part[2] = fma(vec4(x.z), w, part[2]);
        part[3] = fma(vec4(x.w), w, part[3]);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        (*sums)[i] += vec4<f32>(part[i]);
    }
}
