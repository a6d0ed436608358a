const QUADS: u32 = 1u;
const SUMS: u32 = 4u;

fn rounds(most: u32, left: u32) -> u32 {
    return most;
}
