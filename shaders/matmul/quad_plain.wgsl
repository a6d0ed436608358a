// Four values of row m of x; zeros behind its end.
fn quad(m: u32, q: u32) -> vec4<f32> {
    let quads = 2u * params.chunks;
    return select(vec4<f32>(), x[m * quads + min(q, quads - 1u)], q < quads);
}
