var<workgroup> newest_key: array<Eight, MAX_CHUNKS>;
var<workgroup> newest_value: array<Eight, MAX_CHUNKS>;

// Adds the biases and rotates. The split that contains the newest position has its key and value at hand, rounded as the cache rounds them. One workgroup of
// each group of heads writes them to the cache, from which nothing reads them in this launch.
fn prepare(at: Lane, row: Row, kv_head: u32, newest: bool) {
    if (params.mark_depth != 0u && newest && first_head == 0u && at.index == 0u) {
        depth[row.sequence * params.context + row.position] = row.step + 1u;
    }
    let all_chunks = (HEADS + 2u) * params.chunks;
    var i = at.index;
    if (i < all_chunks) {
        loop {
            let c = i % params.chunks;
            let h = i / params.chunks;
            // Heads that a group does not have repeat its last one.
            var source = first_head + min(h, real_heads - 1u);
            if (h >= HEADS) {
                source = params.heads + (h - HEADS) * params.kv_heads + kv_head;
            }
            let v = turned_chunk(at.group.z, row.position, source, c, h <= HEADS);
            if (h < HEADS) {
                held[2u * c * HEADS + h] = v.lo;
                held[(2u * c + 1u) * HEADS + h] = v.hi;
            } else if (h == HEADS) {
                newest_key[c] = v;
            } else {
                newest_value[c] = v;
            }
            continuing {
                i += WG;
                break if i >= all_chunks;
            }
        }
    }
    workgroupBarrier();
    let page = page_of(row.sequence, slot_seen(row.step, row.step + 1u, false), row.position);
    let writes = newest && page != NONE && first_head % (params.heads / params.kv_heads) == 0u;
    keep(at, page, kv_head, row.position, writes);
}

// The row's own position is not looked up in the cache: its key and value are at hand.
const AT_HAND: u32 = 1u;

// Whether the newest position's page lies in this segment.
fn holds_newest(row: Row) -> bool {
    return page_of(row.sequence, slot_seen(row.step, row.step + 1u, false), row.position) != NONE;
}

// A lane's part of the products of the queries with the newest key.
fn newest_products(c: u32) -> PerHead {
    if (c >= params.chunks) {
        return nothing();
    }
    return with_chunk(nothing(), line_of(c), newest_key[c]);
}

fn newest_chunk(of_value: bool, c: u32) -> Eight {
    if (of_value) {
        return newest_value[c];
    }
    return newest_key[c];
}
