fn key(chunk: u32) -> Eight {
    return Eight(keys[2u * chunk], keys[2u * chunk + 1u]);
}

fn value_quad(place: u32, quad: u32) -> vec4<f32> {
    return keys[2u * place + quad];
}
