// A slice of 16 values of k, whose products are added in f16; slices are added in f32.
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

fn add_slice(sums: ptr<function, array<vec4<f32>, SUMS>>, ty: u32, tx: u32) {
    var part: array<vec4<f16>, SUMS>;
    for (var k = 0u; k < DEPTH; k += 1u) {
        let x0 = xs[(k * TILE + ty) / 4u];
        let w0 = ws[(k * TILE + tx) / 4u];
        add(&part, 0u, x0, w0);
        if (QUADS == 2u) {
            let x1 = xs[(k * TILE + ty) / 4u + 16u];
            let w1 = ws[(k * TILE + tx) / 4u + 16u];
            add(&part, 4u, x0, w1);
            add(&part, 8u, x1, w0);
            add(&part, 12u, x1, w1);
        }
    }
    for (var i = 0u; i < SUMS; i += 1u) {
        (*sums)[i] += vec4<f32>(part[i]);
    }
}

// Four rows by four outputs.
fn add(part: ptr<function, array<vec4<f16>, SUMS>>, first: u32, x: vec4<f16>, w: vec4<f16>) {
    (*part)[first] = fma(vec4(x.x), w, (*part)[first]);
    (*part)[first + 1u] = fma(vec4(x.y), w, (*part)[first + 1u]);
    (*part)[first + 2u] = fma(vec4(x.z), w, (*part)[first + 2u]);
    (*part)[first + 3u] = fma(vec4(x.w), w, (*part)[first + 3u]);
}
