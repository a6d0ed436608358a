const QUADS: u32 = 1u;
const SUMS: u32 = 4u;
