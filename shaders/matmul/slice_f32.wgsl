// A slice of 16 values of k, in f32.
const CHUNKS: u32 = 2u;
const DEPTH: u32 = 16u;

var<workgroup> xs: array<vec4<f32>, TILE / 4u * DEPTH>;
var<workgroup> ws: array<vec4<f32>, TILE / 4u * DEPTH>;

fn fetch_x(row: u32, c: u32, half: u32, line: u32) {
    var v = Eight();
    if (c + half < params.chunks) {
        v = input(row, c + half);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        xs[((half * 8u + i) * TILE + line) / 4u][line % 4u] = v.lo[i];
        xs[((half * 8u + i + 4u) * TILE + line) / 4u][line % 4u] = v.hi[i];
    }
}

fn fetch_w(row: u32, c: u32, half: u32, line: u32) {
    var v = Eight();
    if (c + half < params.chunks) {
        v = weight(row, c + half);
    }
    for (var i = 0u; i < 4u; i += 1u) {
        ws[((half * 8u + i) * TILE + line) / 4u][line % 4u] = v.lo[i];
        ws[((half * 8u + i + 4u) * TILE + line) / 4u][line % 4u] = v.hi[i];
    }
}

fn add_slice(sums: ptr<function, array<vec4<f32>, SUMS>>, ty: u32, tx: u32, left: u32) {
    for (var k = 0u; k < rounds(DEPTH, 8u * left); k += 1u) {
        add_products(sums, k, ty, tx);
    }
}

fn add_products(sums: ptr<function, array<vec4<f32>, SUMS>>, k: u32, ty: u32, tx: u32) {
    let x0 = xs[(k * TILE + ty) / 4u];
    let w0 = ws[(k * TILE + tx) / 4u];
    add(sums, 0u, x0, w0);
    if (QUADS == 2u) {
        let x1 = xs[(k * TILE + ty) / 4u + 16u];
        let w1 = ws[(k * TILE + tx) / 4u + 16u];
        add(sums, 4u, x0, w1);
        add(sums, 8u, x1, w0);
        add(sums, 12u, x1, w1);
    }
}

// Four rows by four outputs.
fn add(sums: ptr<function, array<vec4<f32>, SUMS>>, first: u32, x: vec4<f32>, w: vec4<f32>) {
    (*sums)[first] += x.x * w;
    (*sums)[first + 1u] += x.y * w;
    (*sums)[first + 2u] += x.z * w;
    (*sums)[first + 3u] += x.w * w;
}
