// Multiplies chunk j of a unit of four rows of W by up to M rows of x. The factors of blocks are applied to sums, not to every weight.
fn add_chunk(sums: ptr<function, array<vec4<f32>, M>>, first_row: u32, last_row: u32, u: u32, j: u32, a: Unit, b: Unit, d: Unit, e: Unit) {
    let wa = raw_chunk(a, j);
    let wb = raw_chunk(b, j);
    let wd = raw_chunk(d, j);
    let we = raw_chunk(e, j);
    let c = u * UNIT + j;
    for (var m = 0u; m < M; m += 1u) {
        let v = input(min(first_row + m, last_row), min(c, params.chunks - 1u));
        let all = sum8(v);
        let s = (*sums)[m];
        let next = vec4(weigh(s.x, a, wa, v, all), weigh(s.y, b, wb, v, all), weigh(s.z, d, wd, v, all), weigh(s.w, e, we, v, all));
        // A block may extend past the row.
        (*sums)[m] = select(s, next, UNIT == 1u || c < params.chunks);
    }
}

fn add_unit(sums: ptr<function, array<vec4<f32>, M>>, first_row: u32, last_row: u32, u: u32, a: Unit, b: Unit, d: Unit, e: Unit) {
    // Unrolled by hand: with an index that is not constant, compilers select a word of a unit by comparisons.
    add_chunk(sums, first_row, last_row, u, 0u, a, b, d, e);
    if (UNIT > 1u) {
        add_chunk(sums, first_row, last_row, u, 1u, a, b, d, e);
    }
    if (UNIT > 2u) {
        add_chunk(sums, first_row, last_row, u, 2u, a, b, d, e);
        add_chunk(sums, first_row, last_row, u, 3u, a, b, d, e);
    }
}
