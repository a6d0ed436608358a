// Chunk j of a unit of four rows of W, times up to M rows of x. The factors of blocks are applied to sums, not to every weight.
fn add_chunk(sums: ptr<function, array<vec4<f32>, M>>, first_row: u32, last_row: u32, u: u32, j: u32, a: Unit, b: Unit, d: Unit, e: Unit) {
    let wa = raw_chunk(a, j);
    let wb = raw_chunk(b, j);
    let wd = raw_chunk(d, j);
    let we = raw_chunk(e, j);
    let c = u * UNIT + j;
    for (var m = 0u; m < M; m += 1u) {
        var v = input(min(first_row + m, last_row), min(c, params.chunks - 1u));
        // A block may reach beyond the row.
        if (UNIT > 1u && c >= params.chunks) {
            v = Eight();
        }
        let all = sum8(v);
        (*sums)[m] += vec4(weigh(a, dot8(wa, v), all), weigh(b, dot8(wb, v), all), weigh(d, dot8(wd, v), all), weigh(e, dot8(we, v), all));
    }
}

fn add_unit(sums: ptr<function, array<vec4<f32>, M>>, first_row: u32, last_row: u32, u: u32, a: Unit, b: Unit, d: Unit, e: Unit) {
    // Not a loop: with a number that is no constant, compilers look a word of a unit up by comparisons.
    add_chunk(sums, first_row, last_row, u, 0u, a, b, d, e);
    if (UNIT > 1u) {
        add_chunk(sums, first_row, last_row, u, 1u, a, b, d, e);
    }
    if (UNIT > 2u) {
        add_chunk(sums, first_row, last_row, u, 2u, a, b, d, e);
        add_chunk(sums, first_row, last_row, u, 3u, a, b, d, e);
    }
}
