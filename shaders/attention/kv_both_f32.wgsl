fn key(chunk: u32) -> Eight {
    return Eight(kv[2u * chunk], kv[2u * chunk + 1u]);
}

fn value_pair(pair: u32) -> vec2<f32> {
    let four = kv[pair / 2u];
    return select(four.xy, four.zw, (pair & 1u) == 1u);
}

fn rounded(v: Eight) -> Eight {
    return v;
}

fn store_chunk(chunk: u32, v: Eight) {
    kv[2u * chunk] = v.lo;
    kv[2u * chunk + 1u] = v.hi;
}
