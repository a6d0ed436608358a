fn store(chunk: u32, v: Eight) {
    w[chunk] = bf16_of_eight(v);
}
