fn key(chunk: u32) -> Eight {
    return Eight(kv[2u * chunk], kv[2u * chunk + 1u]);
}

fn value_quad(place: u32, quad: u32) -> vec4<f32> {
    return kv[2u * place + quad];
}

fn rounded(v: Eight) -> Eight {
    return v;
}

fn store_chunk(chunk: u32, v: Eight) {
    kv[2u * chunk] = v.lo;
    kv[2u * chunk + 1u] = v.hi;
}
