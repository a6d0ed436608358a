alias PerHead = vec2<f32>;

struct Sums {
    a: Piece,
    b: Piece,
}

// Adds the products of a chunk of every head's query with that chunk of a key.
fn with_chunk(sum: PerHead, line: u32, key: Eight) -> PerHead {
    return vec2(with_eight(sum.x, query(line, 0u), key), with_eight(sum.y, query(line, 1u), key));
}

fn rescaled(sums: Sums, kept: PerHead) -> Sums {
    return Sums(scaled_eight(sums.a, kept.x), scaled_eight(sums.b, kept.y));
}

fn with_value(sums: Sums, weight: PerHead, v: Piece) -> Sums {
    return Sums(add_eight(sums.a, v, weight.x), add_eight(sums.b, v, weight.y));
}

fn largest_of_all(at: Lane, v: PerHead) -> PerHead {
    return reduce_max4(at, v.xyxy).xy;
}

fn sum_of_all(at: Lane, v: PerHead) -> PerHead {
    return reduce_sum4(at, vec4(v, 0.0, 0.0)).xy;
}

fn put_heads(at: Lane, sums: Sums, factor_sum: PerHead, largest: PerHead, weight_sum: PerHead) {
    put_head(at, 0u, sums.a, factor_sum.x, largest.x, weight_sum.x);
    put_head(at, 1u, sums.b, factor_sum.y, largest.y, weight_sum.y);
}
