// A slice of a block of 32 values of k, as eight words of four whole numbers, and what the block's sum is to be multiplied by.
const CHUNKS: u32 = 4u;
const WORDS: u32 = 8u;

var<workgroup> xs: array<u32, TILE * WORDS>;
var<workgroup> ws: array<u32, TILE * WORDS>;
var<workgroup> x_factors: array<vec2<f32>, TILE>;
var<workgroup> w_factors: array<vec2<f32>, TILE>;

fn fetch_x(row: u32, c: u32, half: u32, line: u32) {
    let block = row * ((params.chunks + 3u) / 4u) + c / 4u;
    let v = x[2u * block + half];
    for (var i = 0u; i < 4u; i += 1u) {
        xs[(4u * half + i) * TILE + line] = v[i];
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
        ws[(4u * half + i) * TILE + line] = v[i];
    }
    if (half == 0u) {
        w_factors[line] = factors_of(unit);
    }
}

fn add_slice(sums: ptr<function, array<vec4<f32>, 4>>, ty: u32, tx: u32) {
    var p: array<vec4<i32>, 4>;
    for (var k = 0u; k < WORDS; k += 1u) {
        let s = k * TILE;
        let a = vec4(xs[s + ty], xs[s + ty + 1u], xs[s + ty + 2u], xs[s + ty + 3u]);
        let b = vec4(ws[s + tx], ws[s + tx + 1u], ws[s + tx + 2u], ws[s + tx + 3u]);
        p[0] += vec4(dot4I8Packed(a.x, b.x), dot4I8Packed(a.x, b.y), dot4I8Packed(a.x, b.z), dot4I8Packed(a.x, b.w));
        p[1] += vec4(dot4I8Packed(a.y, b.x), dot4I8Packed(a.y, b.y), dot4I8Packed(a.y, b.z), dot4I8Packed(a.y, b.w));
        p[2] += vec4(dot4I8Packed(a.z, b.x), dot4I8Packed(a.z, b.y), dot4I8Packed(a.z, b.z), dot4I8Packed(a.z, b.w));
        p[3] += vec4(dot4I8Packed(a.w, b.x), dot4I8Packed(a.w, b.y), dot4I8Packed(a.w, b.z), dot4I8Packed(a.w, b.w));
    }
    let f = vec4(w_factors[tx].x, w_factors[tx + 1u].x, w_factors[tx + 2u].x, w_factors[tx + 3u].x);
    let g = vec4(w_factors[tx].y, w_factors[tx + 1u].y, w_factors[tx + 2u].y, w_factors[tx + 3u].y);
    for (var i = 0u; i < 4u; i += 1u) {
        let s = x_factors[ty + i];
        (*sums)[i] += f * (vec4<f32>(p[i]) * s.x);
        if (OFFSETS) {
            (*sums)[i] += g * s.y;
        }
    }
}
