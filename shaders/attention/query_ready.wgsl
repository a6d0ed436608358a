// Loads the queries. They are already rotated, and every key is in the cache. Heads that a group does not have repeat its last one.
fn prepare(at: Lane, row: Row, kv_head: u32, newest: bool) {
    let quads = 2u * params.chunks;
    var i = at.index;
    if (i < HEADS * quads) {
        loop {
            let h = i / quads;
            let source = (at.group.z * params.heads + first_head + min(h, real_heads - 1u)) * quads;
            held[i % quads * HEADS + h] = q[source + i % quads];
            continuing {
                i += WG;
                break if i >= HEADS * quads;
            }
        }
    }
}

const AT_HAND: u32 = 0u;

fn holds_newest(row: Row) -> bool {
    return false;
}

fn newest_products(c: u32) -> PerHead {
    return nothing();
}

fn newest_chunk(of_value: bool, c: u32) -> Eight {
    return Eight();
}
