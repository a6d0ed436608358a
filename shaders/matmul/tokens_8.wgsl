// One sum per row of x.
struct Sum {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

fn total(sum: Sum, m: u32) -> f32 {
    return select(sum.hi[m & 3u], sum.lo[m & 3u], m < 4u);
}

// Eight lanes have one row each.
struct Place {
    line: u32,
}

fn place_of(lane: u32, first_row: u32, last_row: u32) -> Place {
    return Place(line(min(first_row + (lane & 7u), last_row)));
}

// Empty: add_chunk reads x chunk by chunk.
struct Values {
    none: u32,
}

fn values_of(at: Place, b: u32) -> Values {
    return Values();
}

fn add_column(sums: ptr<function, Sums>, w: vec4<f32>, x: f32) {
    let lo = vec4(subgroupShuffle(x, 0u), subgroupShuffle(x, 1u), subgroupShuffle(x, 2u), subgroupShuffle(x, 3u));
    let hi = vec4(subgroupShuffle(x, 4u), subgroupShuffle(x, 5u), subgroupShuffle(x, 6u), subgroupShuffle(x, 7u));
    (*sums).a.lo = fma(vec4(w.x), lo, (*sums).a.lo);
    (*sums).a.hi = fma(vec4(w.x), hi, (*sums).a.hi);
    (*sums).b.lo = fma(vec4(w.y), lo, (*sums).b.lo);
    (*sums).b.hi = fma(vec4(w.y), hi, (*sums).b.hi);
    (*sums).c.lo = fma(vec4(w.z), lo, (*sums).c.lo);
    (*sums).c.hi = fma(vec4(w.z), hi, (*sums).c.hi);
    (*sums).d.lo = fma(vec4(w.w), lo, (*sums).d.lo);
    (*sums).d.hi = fma(vec4(w.w), hi, (*sums).d.hi);
}

// Adds chunk j of block b of four rows of W.
fn add_chunk(sums: ptr<function, Sums>, at: Place, held: Values, b: u32, j: u32, v: Eight, w: Eight, y: Eight, z: Eight) {
    let lo = quad(at.line, 8u * b + 2u * j);
    let hi = quad(at.line, 8u * b + 2u * j + 1u);
    add_column(sums, vec4(v.lo.x, w.lo.x, y.lo.x, z.lo.x), lo.x);
    add_column(sums, vec4(v.lo.y, w.lo.y, y.lo.y, z.lo.y), lo.y);
    add_column(sums, vec4(v.lo.z, w.lo.z, y.lo.z, z.lo.z), lo.z);
    add_column(sums, vec4(v.lo.w, w.lo.w, y.lo.w, z.lo.w), lo.w);
    add_column(sums, vec4(v.hi.x, w.hi.x, y.hi.x, z.hi.x), hi.x);
    add_column(sums, vec4(v.hi.y, w.hi.y, y.hi.y, z.hi.y), hi.y);
    add_column(sums, vec4(v.hi.z, w.hi.z, y.hi.z, z.hi.z), hi.z);
    add_column(sums, vec4(v.hi.w, w.hi.w, y.hi.w, z.hi.w), hi.w);
}
