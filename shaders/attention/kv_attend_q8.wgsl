// Factors of the blocks of each lane's value.
var<workgroup> value_factors: array<vec4<f32>, WG>;

// Bytes as whole numbers around zero, divided by 256, which is exact.
fn numbers(v: Eight) -> Eight {
    return Eight(v.lo - 1.5, v.hi - 1.5);
}

// Product of the query with a key. Also keeps the factors of the value's blocks, which share words with those of the key.
fn product(page: u32, kv_head: u32, position: u32, lane: u32) -> f32 {
    let start = key_unit(page, kv_head, position, 0u);
    let factors = factor_word(page, kv_head, position, 0u);
    var sum = 0.0;
    for (var b = 0u; b < params.chunks / 4u; b += 1u) {
        // 256 / 4096: factors are stored 4096 times too large, and numbers are 256 times too small.
        let factor = 0.0625 * unpack2x16float(factor_at(factors + b * PAGE));
        let first = unit_at(start + 2u * b * PAGE);
        let second = unit_at(start + (2u * b + 1u) * PAGE);
        let products = dot8(query[4u * b], numbers(q8_chunk(first, 0u)))
            + dot8(query[4u * b + 1u], numbers(q8_chunk(first, 1u)))
            + dot8(query[4u * b + 2u], numbers(q8_chunk(second, 0u)))
            + dot8(query[4u * b + 3u], numbers(q8_chunk(second, 1u)));
        sum += factor.x * products;
        value_factors[lane][b] = factor.y;
    }
    return sum;
}

// Start of a value, in words.
fn value_place(page: u32, kv_head: u32, position: u32) -> u32 {
    return 4u * value_unit(page, kv_head, position, 0u);
}

// One pair of the value of the tile's key i.
fn value_of(i: u32, place: u32, pair: u32) -> vec2<f32> {
    let p = word_at(place + pair / 2u) >> (pair % 2u * 16u);
    let bits = vec2(p << 15u, p << 7u) & vec2(0x7f8000u);
    return (bitcast<vec2<f32>>(bits | vec2(0x3f800000u)) - 1.5) * value_factors[i][pair / 16u];
}
