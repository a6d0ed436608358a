// Loads the query. It is already rotated, and every key is in the cache.
fn prepare(at: Lane, row: Row, head: u32, kv_head: u32, newest: bool) {
    if (at.index < params.chunks) {
        let place = 2u * ((at.group.z * params.heads + head) * params.chunks + at.index);
        query[at.index] = Eight(q[place], q[place + 1u]);
    }
}

const AT_HAND: u32 = 0u;

fn holds_newest(row: Row) -> bool {
    return false;
}

fn newest_product(c: u32) -> f32 {
    return 0.0;
}

fn newest_pair(pair: u32) -> vec2<f32> {
    return vec2<f32>();
}
