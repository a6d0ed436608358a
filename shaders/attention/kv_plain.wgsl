// Keys and values in f32 or bf16, in chunks of eight.

// Products of the queries with a key. With few heads, four chunks at a time share the arithmetic of addresses; with many, they would take too many registers.
fn products(page: u32, kv_head: u32, position: u32, i: u32) -> PerHead {
    let start = kv_chunk(page, 0u, kv_head, position);
    var sums = nothing();
    var c = 0u;
    if (FEW_HEADS && params.chunks >= 4u) {
        loop {
            let first = key(start + c);
            let second = key(start + c + 1u);
            let third = key(start + c + 2u);
            let fourth = key(start + c + 3u);
            let line = line_of(c);
            sums = with_chunk(sums, line, first);
            sums = with_chunk(sums, line + CHUNK_LINE, second);
            sums = with_chunk(sums, line + 2u * CHUNK_LINE, third);
            sums = with_chunk(sums, line + 3u * CHUNK_LINE, fourth);
            continuing {
                c += 4u;
                break if c + 4u > params.chunks;
            }
        }
    }
    for (; c < params.chunks; c += 1u) {
        sums = with_chunk(sums, line_of(c), key(start + c));
    }
    return sums;
}

fn prepare_scores(at: Lane) {}

// Start of a value, in chunks.
fn value_place(page: u32, kv_head: u32, position: u32) -> u32 {
    return kv_chunk(page, 1u, kv_head, position);
}

// Chunk c of the value at a place; `value_quad` is one of its halves.
fn value_chunk(place: u32, c: u32) -> Eight {
    return key(place + c);
}

// Values need no factors.
fn value_factor(i: u32, block: u32) -> f32 {
    return 1.0;
}

fn clear_factors(i: u32) {}

fn center_of(factor_sum: f32) -> f32 {
    return 0.0;
}
