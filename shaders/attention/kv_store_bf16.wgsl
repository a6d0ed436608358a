fn store_chunk(chunk: u32, v: Eight) {
    kv[chunk] = bf16_of_eight(v);
}
