// Keeps the newest key and value as the cache rounds them; each lane has its own chunk.
fn keep(at: Lane, page: u32, kv_head: u32, position: u32, writes: bool) {
    if (at.index >= 2u * params.chunks) {
        return;
    }
    let c = at.index % params.chunks;
    let which = at.index / params.chunks;
    let kept = rounded(newest_chunk(which == 1u, c));
    if (which == 0u) {
        newest_key[c] = kept;
    } else {
        newest_value[c] = kept;
    }
    if (writes) {
        store_chunk(kv_chunk(page, which, kv_head, position) + c, kept);
    }
}
