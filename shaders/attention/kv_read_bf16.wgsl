fn key(chunk: u32) -> Eight {
    return eight_of_bf16(keys[chunk]);
}

fn value_quad(place: u32, quad: u32) -> vec4<f32> {
    let unit = place + quad / 2u;
    let word = quad % 2u * 2u;
    return four_of_bf16(vec2(keys[unit][word], keys[unit][word + 1u]));
}
