// When rows of a sequence leave.
struct Terms {
    criterion: u32,
    threshold: f32,
    min_steps: u32,
    every: u32,
    first: u32,
    steps: u32,
    continuous: u32,
    reserved: u32,
}

const NORMED: u32 = 1u;

const COSINE: u32 = 1u;
const ENTROPY_DIFF: u32 = 2u;
const KL: u32 = 3u;
const MIN_P_KL: u32 = 4u;
const ARGMAX_STABILITY: u32 = 5u;

// Whether the step that a row is at is checked, by what is read out or by the state.
fn due(terms: Terms, row: Row) -> bool {
    if (terms.criterion == NONE || row.position < terms.first || row.step < terms.min_steps) {
        return false;
    }
    return (row.step - terms.min_steps) % terms.every == 0u;
}

fn reads_out(terms: Terms) -> bool {
    return terms.criterion >= ENTROPY_DIFF;
}
