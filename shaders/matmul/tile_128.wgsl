// No number that compilers know: a loop that they unrolled whole would need more registers than there are.
fn rounds(most: u32, left: u32) -> u32 {
    return min(most, left);
}
