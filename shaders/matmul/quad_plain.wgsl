// Where row m of x begins, in fours.
fn line(m: u32) -> u32 {
    return m * 2u * params.chunks;
}

// Four values of the row that begins at `start`; zeros behind its end.
fn quad(start: u32, q: u32) -> vec4<f32> {
    let quads = 2u * params.chunks;
    return select(vec4<f32>(), x[start + min(q, quads - 1u)], q < quads);
}
