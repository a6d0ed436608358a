fn store_pair(pair: u32, v: vec2<f32>) {
    kv[pair] = v;
}
