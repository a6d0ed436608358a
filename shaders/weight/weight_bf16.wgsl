fn weight(chunk: u32) -> Eight {
    return eight_of_bf16(w[chunk]);
}
