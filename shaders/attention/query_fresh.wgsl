var<workgroup> newest_key: array<Eight, MAX_CHUNKS>;
var<workgroup> newest_value: array<Eight, MAX_CHUNKS>;

// Adds the biases and rotates. The split that contains the newest position has its key and value at hand, rounded as the cache rounds them. One head of each
// group writes them to the cache, from which nothing reads them in this launch.
fn prepare(at: Lane, row: Row, head: u32, kv_head: u32, newest: bool) {
    if (params.mark_depth != 0u && newest && head == 0u && at.index == 0u) {
        depth[row.sequence * params.context + row.position] = row.step + 1u;
    }
    let c = at.index % params.chunks;
    let which = at.index / params.chunks;
    var v: Eight;
    if (which < 3u) {
        let source = vec3(head, params.heads + kv_head, params.heads + params.kv_heads + kv_head)[which];
        v = turned_chunk(at.group.z, row.position, source, c, which < 2u);
    }
    if (which == 0u) {
        query[c] = v;
    }
    let page = page_of(row.sequence, slot_seen(row.step, row.step + 1u, false), row.position);
    let writes = newest && page != NONE && head % (params.heads / params.kv_heads) == 0u;
    keep(at, which, c, v, page, kv_head, row.position, writes);
}

// The row's own position is not looked up in the cache: its key and value are at hand.
const AT_HAND: u32 = 1u;

// Whether the newest position's page lies in this segment.
fn holds_newest(row: Row) -> bool {
    return page_of(row.sequence, slot_seen(row.step, row.step + 1u, false), row.position) != NONE;
}

// A lane's part of the product of the query with the newest key.
fn newest_product(c: u32) -> f32 {
    if (c >= params.chunks) {
        return 0.0;
    }
    return dot8(query[c], newest_key[c]);
}

fn newest_pair(pair: u32) -> vec2<f32> {
    let v = newest_value[pair / 4u];
    let four = select(v.lo, v.hi, (pair & 2u) == 2u);
    return select(four.xy, four.zw, (pair & 1u) == 1u);
}
