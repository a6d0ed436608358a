// Head of q, k or v and chunk of that head for an invocation, in order.
fn site_of(index: u32) -> vec2<u32> {
    return vec2(index / params.chunks, index % params.chunks);
}

// Nothing to share: a chunk is stored independently of other lanes.
fn share(lane: u32, v: Eight) {}

fn store(lane: u32, page: u32, which: u32, kv_head: u32, position: u32, c: u32, v: Eight) {
    store_chunk(kv_chunk(page, which, kv_head, position) + c, v);
}
