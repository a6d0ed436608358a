fn store(chunk: u32, v: Eight) {
    w[2u * chunk] = v.lo;
    w[2u * chunk + 1u] = v.hi;
}
