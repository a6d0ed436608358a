alias PerHead = vec4<f32>;

struct Sums {
    a: Piece,
    b: Piece,
    c: Piece,
    d: Piece,
}

// Adds the products of a chunk of every head's query with that chunk of a key.
fn with_chunk(sum: PerHead, line: u32, key: Eight) -> PerHead {
    return vec4(
        with_eight(sum.x, query(line, 0u), key),
        with_eight(sum.y, query(line, 1u), key),
        with_eight(sum.z, query(line, 2u), key),
        with_eight(sum.w, query(line, 3u), key),
    );
}

fn rescaled(sums: Sums, kept: PerHead) -> Sums {
    return Sums(
        scaled_eight(sums.a, kept.x),
        scaled_eight(sums.b, kept.y),
        scaled_eight(sums.c, kept.z),
        scaled_eight(sums.d, kept.w),
    );
}

fn with_value(sums: Sums, weight: PerHead, v: Piece) -> Sums {
    return Sums(
        add_eight(sums.a, v, weight.x),
        add_eight(sums.b, v, weight.y),
        add_eight(sums.c, v, weight.z),
        add_eight(sums.d, v, weight.w),
    );
}

fn largest_of_all(at: Lane, v: PerHead) -> PerHead {
    return reduce_max4(at, v);
}

fn sum_of_all(at: Lane, v: PerHead) -> PerHead {
    return reduce_sum4(at, v);
}

fn put_heads(at: Lane, sums: Sums, factor_sum: PerHead, largest: PerHead, weight_sum: PerHead) {
    put_head(at, 0u, sums.a, factor_sum.x, largest.x, weight_sum.x);
    put_head(at, 1u, sums.b, factor_sum.y, largest.y, weight_sum.y);
    put_head(at, 2u, sums.c, factor_sum.z, largest.z, weight_sum.z);
    put_head(at, 3u, sums.d, factor_sum.w, largest.w, weight_sum.w);
}
