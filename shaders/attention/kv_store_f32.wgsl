fn store_chunk(chunk: u32, v: Eight) {
    kv[2u * chunk] = v.lo;
    kv[2u * chunk + 1u] = v.hi;
}
