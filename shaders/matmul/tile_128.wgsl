// A runtime value on purpose: a completely unrolled loop would need too many registers.
fn rounds(most: u32, left: u32) -> u32 {
    return min(most, left);
}
