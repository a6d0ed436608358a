struct Held {
    low: Chunks,
}

fn rescaled(v: Held, kept: PerRow) -> Held {
    return Held(rescaled_chunks(v.low, kept));
}

// Adds a page of values to the chunk of this lane.
fn add_values(state: ptr<function, State>, places: vec4<u32>, lane: u32, shares: Shares) {
    (*state).values.low = with_values((*state).values.low, places, min(lane, params.chunks - 1u), shares);
}

fn put_values(v: Held, first_row: u32, split: u32, lane: u32, alive: bool) {
    put_chunks(v.low, first_row, split, lane, alive);
}
