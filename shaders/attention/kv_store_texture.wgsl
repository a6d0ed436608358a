fn store_chunk(chunk: u32, v: Eight) {
    textureStore(kv, vec2(chunk % TEXTURE_WIDTH, chunk / TEXTURE_WIDTH), bf16_of_eight(v));
}
