// One partial sum per component of a quad.
alias Sum = vec4<f32>;

fn total(sum: Sum, m: u32) -> f32 {
    return dot(sum, vec4(1.0));
}

// Eight lanes share the eight quads of a block.
struct Place {
    line: u32,
    quad: u32,
}

fn place_of(lane: u32, first_row: u32, last_row: u32) -> Place {
    return Place(line(first_row), lane & 7u);
}

// Values of x that a lane holds during a block.
alias Values = vec4<f32>;

fn values_of(at: Place, b: u32) -> Values {
    return quad(at.line, 8u * b + at.quad);
}

// Adds chunk j of block b of four rows of W.
fn add_chunk(sums: ptr<function, Sums>, at: Place, x: Values, b: u32, j: u32, v: Eight, w: Eight, y: Eight, z: Eight) {
    let lo = subgroupShuffle(x, 2u * j);
    let hi = subgroupShuffle(x, 2u * j + 1u);
    (*sums).a = fma(v.hi, hi, fma(v.lo, lo, (*sums).a));
    (*sums).b = fma(w.hi, hi, fma(w.lo, lo, (*sums).b));
    (*sums).c = fma(y.hi, hi, fma(y.lo, lo, (*sums).c));
    (*sums).d = fma(z.hi, hi, fma(z.lo, lo, (*sums).d));
}
