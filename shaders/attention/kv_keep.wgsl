// Keeps the newest key and value as the cache rounds them; each lane has its own chunk.
fn keep(at: Lane, which: u32, c: u32, v: Eight, page: u32, kv_head: u32, position: u32, writes: bool) {
    if (which == 0u || which > 2u) {
        return;
    }
    let kept = rounded(v);
    if (which == 1u) {
        newest_key[c] = kept;
    } else {
        newest_value[c] = kept;
    }
    if (writes) {
        store_chunk(kv_chunk(page, which - 1u, kv_head, position) + c, kept);
    }
}
