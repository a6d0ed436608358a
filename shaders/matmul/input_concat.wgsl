// A row of concat[state, embedding], which is never materialized: the first half of its chunks comes from the state.
fn input(m: u32, c: u32) -> Eight {
    let half = params.chunks / 2u;
    if (c < half) {
        let place = 2u * (m * half + c);
        return Eight(state[place], state[place + 1u]);
    }
    let place = 2u * (m * half + c - half);
    return Eight(embedding[place], embedding[place + 1u]);
}
