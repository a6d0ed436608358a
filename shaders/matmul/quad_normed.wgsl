// Four values of a row of a record, zeros behind its end: u is the sum with the weights of its norms; what is left of them is a factor for
// the whole row.
fn quad(m: u32, q: u32) -> vec4<f32> {
    let quads = 2u * params.chunks;
    return select(vec4<f32>(), x[m * params.record / 4u + quads + min(q, quads - 1u)], q < quads);
}
