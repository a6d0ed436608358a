fn kv_at(chunk: u32) -> Eight {
    return eight_of_bf16(textureLoad(kv, vec2(chunk % TEXTURE_WIDTH, chunk / TEXTURE_WIDTH)));
}
