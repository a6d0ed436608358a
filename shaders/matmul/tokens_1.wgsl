const M: u32 = 1u;

// One sum for each place in a quad.
alias Sum = vec4<f32>;

fn total(sum: Sum, m: u32) -> f32 {
    return dot(sum, vec4(1.0));
}

// Eight lanes share the eight quads of a block.
struct Place {
    row: u32,
    quad: u32,
}

fn place_of(lane: u32, first_row: u32, last_row: u32) -> Place {
    return Place(first_row, lane & 7u);
}

// The values of x that a lane holds during a block.
alias Values = vec4<f32>;

fn values_of(at: Place, b: u32) -> Values {
    return quad(at.row, 8u * b + at.quad);
}

// Chunk j of block b, of four rows of W.
fn add_chunk(sums: ptr<function, Sums>, at: Place, x: Values, b: u32, j: u32, v: Eight, w: Eight, y: Eight, z: Eight) {
    let lo = subgroupShuffle(x, 2u * j);
    let hi = subgroupShuffle(x, 2u * j + 1u);
    (*sums).a = fma(v.hi, hi, fma(v.lo, lo, (*sums).a));
    (*sums).b = fma(w.hi, hi, fma(w.lo, lo, (*sums).b));
    (*sums).c = fma(y.hi, hi, fma(y.lo, lo, (*sums).c));
    (*sums).d = fma(z.hi, hi, fma(z.lo, lo, (*sums).d));
}

// Scale and offset of a block of each of four rows of W, where weights come in blocks.
struct Scales {
    a: vec2<f32>,
    b: vec2<f32>,
    c: vec2<f32>,
    d: vec2<f32>,
}

// A block's weights are added up as they come, and its scale is applied once.
fn weigh(v: Eight, scale: vec2<f32>) -> Eight {
    return v;
}

fn open_block(sums: Sums) -> Sums {
    return Sums();
}

fn close_block(sums: ptr<function, Sums>, part: Sums, x: Values, s: Scales) {
    let left = subgroupShuffle(x, 0u) + subgroupShuffle(x, 1u) + subgroupShuffle(x, 2u) + subgroupShuffle(x, 3u);
    let all = left + subgroupShuffle(x, 4u) + subgroupShuffle(x, 5u) + subgroupShuffle(x, 6u) + subgroupShuffle(x, 7u);
    (*sums).a = fma(part.a, vec4(s.a.x), fma(all, vec4(s.a.y), (*sums).a));
    (*sums).b = fma(part.b, vec4(s.b.x), fma(all, vec4(s.b.y), (*sums).b));
    (*sums).c = fma(part.c, vec4(s.c.x), fma(all, vec4(s.c.y), (*sums).c));
    (*sums).d = fma(part.d, vec4(s.d.x), fma(all, vec4(s.d.y), (*sums).d));
}
