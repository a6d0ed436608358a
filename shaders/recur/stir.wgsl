// Noise that the states of a sequence get.
struct Stir {
    kind: u32,
    amount: f32,
    steps: f32,
    renorm: u32,
}

const FIXED: u32 = 0u;
const GEOM: u32 = 1u;
const SQRT: u32 = 2u;
const LINE: u32 = 3u;
