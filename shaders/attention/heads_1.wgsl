alias PerHead = f32;

struct Sums {
    a: Piece,
}

// Adds the products of a chunk of every head's query with that chunk of a key.
fn with_chunk(sum: PerHead, line: u32, key: Eight) -> PerHead {
    return with_eight(sum, query(line, 0u), key);
}

fn rescaled(sums: Sums, kept: PerHead) -> Sums {
    return Sums(scaled_eight(sums.a, kept));
}

fn with_value(sums: Sums, weight: PerHead, v: Piece) -> Sums {
    return Sums(add_eight(sums.a, v, weight));
}

fn largest_of_all(at: Lane, v: PerHead) -> PerHead {
    return reduce_max(at, v);
}

fn sum_of_all(at: Lane, v: PerHead) -> PerHead {
    return reduce_sum4(at, vec4(v, 0.0, 0.0, 0.0)).x;
}

fn put_heads(at: Lane, sums: Sums, factor_sum: PerHead, largest: PerHead, weight_sum: PerHead) {
    put_head(at, 0u, sums.a, factor_sum, largest, weight_sum);
}
