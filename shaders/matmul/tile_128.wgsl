const QUADS: u32 = 2u;
const SUMS: u32 = 16u;
