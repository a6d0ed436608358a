fn key(chunk: u32) -> Eight {
    return Eight(keys[2u * chunk], keys[2u * chunk + 1u]);
}

fn value_pair(pair: u32) -> vec2<f32> {
    return values[pair];
}
