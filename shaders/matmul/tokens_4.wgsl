// One sum per row of x.
alias Sum = vec4<f32>;

fn total(sum: Sum, m: u32) -> f32 {
    return sum[m];
}

// Eight lanes share the two quads of a chunk of four rows.
struct Place {
    line: u32,
    quad: u32,
}

fn place_of(lane: u32, first_row: u32, last_row: u32) -> Place {
    return Place(line(min(first_row + (lane & 3u), last_row)), (lane >> 2u) & 1u);
}

// Empty: add_chunk reads x chunk by chunk.
struct Values {
    none: u32,
}

fn values_of(at: Place, b: u32) -> Values {
    return Values();
}

fn add_column(sums: ptr<function, Sums>, w: vec4<f32>, x: vec4<f32>) {
    (*sums).a = fma(vec4(w.x), x, (*sums).a);
    (*sums).b = fma(vec4(w.y), x, (*sums).b);
    (*sums).c = fma(vec4(w.z), x, (*sums).c);
    (*sums).d = fma(vec4(w.w), x, (*sums).d);
}

fn of_rows(x: f32, first: u32) -> vec4<f32> {
    return vec4(subgroupShuffle(x, first), subgroupShuffle(x, first + 1u), subgroupShuffle(x, first + 2u), subgroupShuffle(x, first + 3u));
}

// Adds chunk j of block b of four rows of W.
fn add_chunk(sums: ptr<function, Sums>, at: Place, held: Values, b: u32, j: u32, v: Eight, w: Eight, y: Eight, z: Eight) {
    let x = quad(at.line, 8u * b + 2u * j + at.quad);
    add_column(sums, vec4(v.lo.x, w.lo.x, y.lo.x, z.lo.x), of_rows(x.x, 0u));
    add_column(sums, vec4(v.lo.y, w.lo.y, y.lo.y, z.lo.y), of_rows(x.y, 0u));
    add_column(sums, vec4(v.lo.z, w.lo.z, y.lo.z, z.lo.z), of_rows(x.z, 0u));
    add_column(sums, vec4(v.lo.w, w.lo.w, y.lo.w, z.lo.w), of_rows(x.w, 0u));
    add_column(sums, vec4(v.hi.x, w.hi.x, y.hi.x, z.hi.x), of_rows(x.x, 4u));
    add_column(sums, vec4(v.hi.y, w.hi.y, y.hi.y, z.hi.y), of_rows(x.y, 4u));
    add_column(sums, vec4(v.hi.z, w.hi.z, y.hi.z, z.hi.z), of_rows(x.z, 4u));
    add_column(sums, vec4(v.hi.w, w.hi.w, y.hi.w, z.hi.w), of_rows(x.w, 4u));
}
