fn weight(chunk: u32) -> Eight {
    return Eight(w[2u * chunk], w[2u * chunk + 1u]);
}
