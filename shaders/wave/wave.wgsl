// A wave: positions that are iterated together, the first of them in the first row of the table.
struct Wave {
    // Position of the first row, which is known.
    first: u32,
    // Rows.
    length: u32,
    // Positions whose tokens stand, from the start of the sequence.
    known: u32,
    // The first row whose state is not that of the round before.
    fresh: u32,
    // Rows that had an embedding in the round before.
    kept: u32,
    // Rows that the last round dropped at the front, and the one before it.
    slip: u32,
    slip_before: u32,
    // Rows of the last round.
    swept: u32,
    // Rows whose change in the last round is known.
    changes: u32,
    // Rounds so far.
    round: u32,
    unused: vec2<u32>,
}

// What is known of a row.
struct Mark {
    // Steps that it has had.
    steps: u32,
    // Rounds that found its token as it was.
    stable: u32,
    // What the last check came to.
    value: f32,
    unused: u32,
}

const LATENT_DIFF: u32 = 0u;
const ACCELERATION_1: u32 = 1u;
const ACCELERATION_2: u32 = 2u;
const TOKEN_STABILITY: u32 = 3u;
const FIXED: u32 = 4u;

// The value of a row that cannot be judged yet.
const UNJUDGED: f32 = -1.0;
