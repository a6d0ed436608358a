// Where u of row m of fused sums begins, in fours: the sum with the weights of its norms. What is left of them is a factor for the whole row.
fn line(m: u32) -> u32 {
    return m * params.fused / 4u + 2u * params.chunks;
}

// Four values of it; zeros behind its end.
fn quad(start: u32, q: u32) -> vec4<f32> {
    let quads = 2u * params.chunks;
    return select(vec4<f32>(), x[start + min(q, quads - 1u)], q < quads);
}
