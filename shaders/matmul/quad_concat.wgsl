// Start of row m of state and embedding, in quads.
fn line(m: u32) -> u32 {
    return m * params.chunks;
}

// Quad q of a row of concat[state, embedding], which is never materialized; zeros past its end.
fn quad(start: u32, q: u32) -> vec4<f32> {
    let half = params.chunks;
    if (q < half) {
        return state[start + q];
    }
    return select(vec4<f32>(), embedding[start + min(q - half, half - 1u)], q < 2u * half);
}
