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

// The share of the state that noise takes the place of.
fn share_of(stir: Stir, step: u32, chance: f32) -> f32 {
    let i = f32(step);
    switch (stir.kind) {
        case FIXED: {
            return stir.amount;
        }
        case GEOM: {
            return stir.amount / (i + 1.0);
        }
        case SQRT: {
            return stir.amount / sqrt(i + 1.0);
        }
        case LINE: {
            return max(stir.amount, (stir.steps - i) / stir.steps);
        }
        default: {
            return 2.0 * chance * stir.amount;
        }
    }
}
