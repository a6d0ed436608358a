fn rounds(most: u32, left: u32) -> u32 {
    return most;
}
