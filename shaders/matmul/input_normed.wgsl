// u of a row of fused sums: the sum times the weights of the norms. The rest of the norms is one factor per row.
fn input(m: u32, c: u32) -> Eight {
    let place = (m * params.fused + 8u * params.chunks) / 4u + 2u * c;
    return Eight(x[place], x[place + 1u]);
}
