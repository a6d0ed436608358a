// Keys and values in f32 or bf16, in chunks of eight.

// Product of the query with a key.
fn product(page: u32, kv_head: u32, position: u32, lane: u32) -> f32 {
    let start = kv_chunk(page, 0u, kv_head, position);
    var sum = 0.0;
    for (var c = 0u; c < params.chunks; c += 1u) {
        sum = with_eight(sum, query[c], key(start + c));
    }
    return sum;
}

// Start of a value, in pairs.
fn value_place(page: u32, kv_head: u32, position: u32) -> u32 {
    return 4u * kv_chunk(page, 1u, kv_head, position);
}

// One pair of the value of the tile's key i.
fn value_of(i: u32, place: u32, pair: u32) -> vec2<f32> {
    return value_pair(place + pair);
}
