fn key(chunk: u32) -> Eight {
    return eight_of_bf16(kv[chunk]);
}

fn value_quad(place: u32, quad: u32) -> vec4<f32> {
    let unit = place + quad / 2u;
    let word = quad % 2u * 2u;
    return four_of_bf16(vec2(kv[unit][word], kv[unit][word + 1u]));
}

fn rounded(v: Eight) -> Eight {
    return eight_of_bf16(bf16_of_eight(v));
}

fn store_chunk(chunk: u32, v: Eight) {
    kv[chunk] = bf16_of_eight(v);
}
