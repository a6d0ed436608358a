// A slice of one block of 32 values of k: eight words of four whole numbers, and the factors of the block's sum.
const CHUNKS: u32 = 4u;
const WORDS: u32 = 8u;

var<workgroup> xs: array<vec4<u32>, TILE / 4u * WORDS>;
var<workgroup> ws: array<vec4<u32>, TILE / 4u * WORDS>;
var<workgroup> x_factors: array<vec2<f32>, TILE>;
var<workgroup> w_factors: array<vec2<f32>, TILE>;

fn fetch_x(row: u32, c: u32, half: u32, line: u32) {
    let block = row * ((params.chunks + 3u) / 4u) + c / 4u;
    let v = x[2u * block + half];
    for (var i = 0u; i < 4u; i += 1u) {
        xs[((4u * half + i) * TILE + line) / 4u][line % 4u] = v[i];
    }
    if (half == 0u) {
        x_factors[line] = factors[block];
    }
}

fn fetch_w(row: u32, c: u32, half: u32, line: u32) {
    let unit = unit_at(row, (c + 2u * half) / UNIT);
    // The second half of a block is the next unit, or the rest of this one.
    let v = ints_of(unit, half * (FOURS - 1u));
    for (var i = 0u; i < 4u; i += 1u) {
        ws[((4u * half + i) * TILE + line) / 4u][line % 4u] = v[i];
    }
    if (half == 0u) {
        w_factors[line] = factors_of(unit);
    }
}

// Four rows by four outputs at a time, because integer sums need registers in addition to those in f32.
fn add_slice(sums: ptr<function, array<vec4<f32>, SUMS>>, ty: u32, tx: u32, left: u32) {
    add_quad(sums, 0u, ty, tx, left);
    if (QUADS == 2u) {
        add_quad(sums, 4u, ty, tx + 64u, left);
        add_quad(sums, 8u, ty + 64u, tx, left);
        add_quad(sums, 12u, ty + 64u, tx + 64u, left);
    }
}

fn add_quad(sums: ptr<function, array<vec4<f32>, SUMS>>, first: u32, ty: u32, tx: u32, left: u32) {
    var p: array<vec4<i32>, 4>;
    for (var k = 0u; k < rounds(WORDS, 2u * left); k += 1u) {
        let a = xs[(k * TILE + ty) / 4u];
        let b = ws[(k * TILE + tx) / 4u];
        p[0] += dots(a.x, b);
        p[1] += dots(a.y, b);
        p[2] += dots(a.z, b);
        p[3] += dots(a.w, b);
    }
    let f = vec4(w_factors[tx].x, w_factors[tx + 1u].x, w_factors[tx + 2u].x, w_factors[tx + 3u].x);
    let g = vec4(w_factors[tx].y, w_factors[tx + 1u].y, w_factors[tx + 2u].y, w_factors[tx + 3u].y);
    for (var i = 0u; i < 4u; i += 1u) {
        let s = x_factors[ty + i];
        (*sums)[first + i] += f * (vec4<f32>(p[i]) * s.x);
        if (OFFSETS) {
            (*sums)[first + i] += g * s.y;
        }
    }
}

fn dots(x: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4(dot4I8Packed(x, w.x), dot4I8Packed(x, w.y), dot4I8Packed(x, w.z), dot4I8Packed(x, w.w));
}
