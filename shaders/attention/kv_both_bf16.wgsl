fn key(chunk: u32) -> Eight {
    return eight_of_bf16(kv[chunk]);
}

fn value_pair(pair: u32) -> vec2<f32> {
    let p = kv[pair / 4u][pair % 4u];
    return vec2(bitcast<f32>(p << 16u), bitcast<f32>(p & 0xffff0000u));
}

fn rounded(v: Eight) -> Eight {
    return eight_of_bf16(bf16_of_eight(v));
}

fn store_chunk(chunk: u32, v: Eight) {
    kv[chunk] = bf16_of_eight(v);
}
