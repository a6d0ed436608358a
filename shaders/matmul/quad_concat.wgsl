// Where row m of state and embedding begins, in fours.
fn line(m: u32) -> u32 {
    return m * params.chunks;
}

// Four values of a row of concat[state, embedding], which nobody ever builds; zeros behind its end.
fn quad(start: u32, q: u32) -> vec4<f32> {
    let half = params.chunks;
    if (q < half) {
        return state[start + q];
    }
    return select(vec4<f32>(), embedding[start + min(q - half, half - 1u)], q < 2u * half);
}
