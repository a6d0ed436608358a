// Chunks of eight of keys and values in f32 or bf16, which share one buffer.
fn key_chunk(page: u32, kv_head: u32, position: u32, c: u32) -> Eight {
    return key(kv_chunk(page, 0u, kv_head, position) + c);
}

fn value_chunk(page: u32, kv_head: u32, position: u32, c: u32) -> Eight {
    return key(kv_chunk(page, 1u, kv_head, position) + c);
}
