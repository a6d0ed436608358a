// Start of u of row m of fused sums, in quads. u is the sum times the weights of the norms; the rest of the norms is one factor per row.
fn line(m: u32) -> u32 {
    return m * params.fused / 4u + 2u * params.chunks;
}

// Quad q of the row that begins at `start`; zeros past its end.
fn quad(start: u32, q: u32) -> vec4<f32> {
    let quads = 2u * params.chunks;
    return select(vec4<f32>(), x[start + min(q, quads - 1u)], q < quads);
}
