// A slice of a block of 32 values of k, as eight words of four whole numbers, and what the block's sum is to be multiplied by.
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
    // The second half of a block is another unit, or the rest of this one.
    let v = ints_of(unit, half * (FOURS - 1u));
    for (var i = 0u; i < 4u; i += 1u) {
        ws[((4u * half + i) * TILE + line) / 4u][line % 4u] = v[i];
    }
    if (half == 0u) {
        w_factors[line] = factors_of(unit);
    }
}

fn add_slice(sums: ptr<function, array<vec4<f32>, SUMS>>, ty: u32, tx: u32, left: u32) {
    add_quad(sums, 0u, ty, tx, left);
    if (QUADS == 2u) {
        add_quad(sums, 1u, ty + 64u, tx, left);
    }
}

// One quad of rows at a time, whose sums of whole numbers need registers besides those in f32.
fn add_quad(sums: ptr<function, array<vec4<f32>, SUMS>>, quad: u32, ty: u32, tx: u32, left: u32) {
    var p: array<vec4<i32>, 4u * QUADS>;
    for (var k = 0u; k < rounds(WORDS, 2u * left); k += 1u) {
        let x = xs[(k * TILE + ty) / 4u];
        add(&p, 0u, x, ws[(k * TILE + tx) / 4u]);
        if (QUADS == 2u) {
            add(&p, 4u, x, ws[(k * TILE + tx) / 4u + 16u]);
        }
    }
    add_scaled(sums, 4u * QUADS * quad, &p, 0u, ty, tx);
    if (QUADS == 2u) {
        add_scaled(sums, 4u * QUADS * quad + 4u, &p, 4u, ty, tx + 64u);
    }
}

// A block's sums, four rows by four outputs, by the factors of its row and of its weights.
fn add_scaled(
    sums: ptr<function, array<vec4<f32>, SUMS>>,
    place: u32,
    p: ptr<function, array<vec4<i32>, 4u * QUADS>>,
    first: u32,
    ty: u32,
    n: u32,
) {
    let f = vec4(w_factors[n].x, w_factors[n + 1u].x, w_factors[n + 2u].x, w_factors[n + 3u].x);
    let g = vec4(w_factors[n].y, w_factors[n + 1u].y, w_factors[n + 2u].y, w_factors[n + 3u].y);
    for (var i = 0u; i < 4u; i += 1u) {
        let s = x_factors[ty + i];
        (*sums)[place + i] += f * (vec4<f32>((*p)[first + i]) * s.x);
        if (OFFSETS) {
            (*sums)[place + i] += g * s.y;
        }
    }
}

// Four rows by four outputs.
fn add(p: ptr<function, array<vec4<i32>, 4u * QUADS>>, first: u32, x: vec4<u32>, w: vec4<u32>) {
    (*p)[first] += dots(x.x, w);
    (*p)[first + 1u] += dots(x.y, w);
    (*p)[first + 2u] += dots(x.z, w);
    (*p)[first + 3u] += dots(x.w, w);
}

fn dots(x: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4(dot4I8Packed(x, w.x), dot4I8Packed(x, w.y), dot4I8Packed(x, w.z), dot4I8Packed(x, w.w));
}
