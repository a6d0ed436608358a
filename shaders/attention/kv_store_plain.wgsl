// The head of q, k or v and the chunk of it that an invocation takes: one after the other.
fn site_of(index: u32) -> vec2<u32> {
    return vec2(index / params.chunks, index % params.chunks);
}

// A chunk is stored for itself.
fn share(lane: u32, v: Eight) {}

fn store(lane: u32, page: u32, which: u32, kv_head: u32, position: u32, c: u32, v: Eight) {
    store_chunk(kv_chunk(page, which, kv_head, position) + c, v);
}
