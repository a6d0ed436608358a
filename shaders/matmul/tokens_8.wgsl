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

// The sum of a row of x after a chunk of a row of W.
fn with_chunk(sum: f32, w: Eight, lo: vec4<f32>, hi: vec4<f32>) -> f32 {
    let first = fma(w.lo.w, lo.w, fma(w.lo.z, lo.z, fma(w.lo.y, lo.y, fma(w.lo.x, lo.x, sum))));
    return fma(w.hi.w, hi.w, fma(w.hi.z, hi.z, fma(w.hi.y, hi.y, fma(w.hi.x, hi.x, first))));
}

// Values of one lane.
fn of_lane(x: vec4<f32>, lane: u32) -> vec4<f32> {
    return vec4(subgroupShuffle(x.x, lane), subgroupShuffle(x.y, lane), subgroupShuffle(x.z, lane), subgroupShuffle(x.w, lane));
}

// Adds chunk j of block b of four rows of W. One row of x after another: CPUs with 16 registers cannot hold the sums of all rows.
fn add_chunk(sums: ptr<function, Sums>, at: Place, held: Values, b: u32, j: u32, v: Eight, w: Eight, y: Eight, z: Eight) {
    let lo = quad(at.line, 8u * b + 2u * j);
    let hi = quad(at.line, 8u * b + 2u * j + 1u);
    let lo0 = of_lane(lo, 0u);
    let hi0 = of_lane(hi, 0u);
    (*sums).a.lo.x = with_chunk((*sums).a.lo.x, v, lo0, hi0);
    (*sums).b.lo.x = with_chunk((*sums).b.lo.x, w, lo0, hi0);
    (*sums).c.lo.x = with_chunk((*sums).c.lo.x, y, lo0, hi0);
    (*sums).d.lo.x = with_chunk((*sums).d.lo.x, z, lo0, hi0);
    let lo1 = of_lane(lo, 1u);
    let hi1 = of_lane(hi, 1u);
    (*sums).a.lo.y = with_chunk((*sums).a.lo.y, v, lo1, hi1);
    (*sums).b.lo.y = with_chunk((*sums).b.lo.y, w, lo1, hi1);
    (*sums).c.lo.y = with_chunk((*sums).c.lo.y, y, lo1, hi1);
    (*sums).d.lo.y = with_chunk((*sums).d.lo.y, z, lo1, hi1);
    let lo2 = of_lane(lo, 2u);
    let hi2 = of_lane(hi, 2u);
    (*sums).a.lo.z = with_chunk((*sums).a.lo.z, v, lo2, hi2);
    (*sums).b.lo.z = with_chunk((*sums).b.lo.z, w, lo2, hi2);
    (*sums).c.lo.z = with_chunk((*sums).c.lo.z, y, lo2, hi2);
    (*sums).d.lo.z = with_chunk((*sums).d.lo.z, z, lo2, hi2);
    let lo3 = of_lane(lo, 3u);
    let hi3 = of_lane(hi, 3u);
    (*sums).a.lo.w = with_chunk((*sums).a.lo.w, v, lo3, hi3);
    (*sums).b.lo.w = with_chunk((*sums).b.lo.w, w, lo3, hi3);
    (*sums).c.lo.w = with_chunk((*sums).c.lo.w, y, lo3, hi3);
    (*sums).d.lo.w = with_chunk((*sums).d.lo.w, z, lo3, hi3);
    let lo4 = of_lane(lo, 4u);
    let hi4 = of_lane(hi, 4u);
    (*sums).a.hi.x = with_chunk((*sums).a.hi.x, v, lo4, hi4);
    (*sums).b.hi.x = with_chunk((*sums).b.hi.x, w, lo4, hi4);
    (*sums).c.hi.x = with_chunk((*sums).c.hi.x, y, lo4, hi4);
    (*sums).d.hi.x = with_chunk((*sums).d.hi.x, z, lo4, hi4);
    let lo5 = of_lane(lo, 5u);
    let hi5 = of_lane(hi, 5u);
    (*sums).a.hi.y = with_chunk((*sums).a.hi.y, v, lo5, hi5);
    (*sums).b.hi.y = with_chunk((*sums).b.hi.y, w, lo5, hi5);
    (*sums).c.hi.y = with_chunk((*sums).c.hi.y, y, lo5, hi5);
    (*sums).d.hi.y = with_chunk((*sums).d.hi.y, z, lo5, hi5);
    let lo6 = of_lane(lo, 6u);
    let hi6 = of_lane(hi, 6u);
    (*sums).a.hi.z = with_chunk((*sums).a.hi.z, v, lo6, hi6);
    (*sums).b.hi.z = with_chunk((*sums).b.hi.z, w, lo6, hi6);
    (*sums).c.hi.z = with_chunk((*sums).c.hi.z, y, lo6, hi6);
    (*sums).d.hi.z = with_chunk((*sums).d.hi.z, z, lo6, hi6);
    let lo7 = of_lane(lo, 7u);
    let hi7 = of_lane(hi, 7u);
    (*sums).a.hi.w = with_chunk((*sums).a.hi.w, v, lo7, hi7);
    (*sums).b.hi.w = with_chunk((*sums).b.hi.w, w, lo7, hi7);
    (*sums).c.hi.w = with_chunk((*sums).c.hi.w, y, lo7, hi7);
    (*sums).d.hi.w = with_chunk((*sums).d.hi.w, z, lo7, hi7);
}
