// Four values of row m of concat[state, embedding], which nobody ever builds; zeros behind its end.
fn quad(m: u32, q: u32) -> vec4<f32> {
    let half = params.chunks;
    if (q < half) {
        return state[m * half + q];
    }
    return select(vec4<f32>(), embedding[m * half + min(q - half, half - 1u)], q < 2u * half);
}
