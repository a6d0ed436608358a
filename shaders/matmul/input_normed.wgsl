// A row of fused sums: u is the sum with the weights of its norms; what is left of them is a factor for the whole row.
fn input(m: u32, c: u32) -> Eight {
    let place = (m * params.fused + 8u * params.chunks) / 4u + 2u * c;
    return Eight(x[place], x[place + 1u]);
}
