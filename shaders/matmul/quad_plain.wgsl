// Start of row m of x, in quads.
fn line(m: u32) -> u32 {
    return m * 2u * params.chunks;
}

// Quad q of the row that begins at `start`; zeros past its end.
fn quad(start: u32, q: u32) -> vec4<f32> {
    let quads = 2u * params.chunks;
    return select(vec4<f32>(), x[start + min(q, quads - 1u)], q < quads);
}
