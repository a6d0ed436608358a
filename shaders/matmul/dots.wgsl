// Products of whole numbers, four at a time. A unit of W has FOURS vectors of four words of four numbers, and x has its numbers in the same order.
fn dot16(w: vec4<u32>, v: vec4<u32>) -> i32 {
    return dot4I8Packed(w.x, v.x) + dot4I8Packed(w.y, v.y) + dot4I8Packed(w.z, v.z) + dot4I8Packed(w.w, v.w);
}

// Adds the product of a block to a sum. `s` holds the scale and the sum of the block of x.
fn with_product(sum: f32, unit: Unit, product: i32, s: vec2<f32>) -> f32 {
    let f = factors_of(unit);
    let v = fma(f32(product), f.x * s.x, sum);
    return select(v, fma(f.y, s.y, v), OFFSETS);
}

// Multiplies a unit of four rows of W by up to M rows of x.
fn add_unit(sums: ptr<function, array<vec4<f32>, M>>, first_row: u32, last_row: u32, u: u32, a: Unit, b: Unit, d: Unit, e: Unit) {
    let blocks = (params.chunks + 3u) / 4u;
    for (var m = 0u; m < M; m += 1u) {
        let block = min(first_row + m, last_row) * blocks + u * UNIT / 4u;
        let s = factors[block];
        let start = min(first_row + m, last_row) * 2u * blocks + u * FOURS;
        var v = x[start];
        var p = vec4(dot16(ints_of(a, 0u), v), dot16(ints_of(b, 0u), v), dot16(ints_of(d, 0u), v), dot16(ints_of(e, 0u), v));
        if (FOURS > 1u) {
            v = x[start + 1u];
            p += vec4(dot16(ints_of(a, 1u), v), dot16(ints_of(b, 1u), v), dot16(ints_of(d, 1u), v), dot16(ints_of(e, 1u), v));
        }
        let t = (*sums)[m];
        (*sums)[m] = vec4(with_product(t.x, a, p.x, s), with_product(t.y, b, p.y, s), with_product(t.z, d, p.z, s), with_product(t.w, e, p.w, s));
    }
}
