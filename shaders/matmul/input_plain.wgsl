fn input(m: u32, c: u32) -> Eight {
    let place = 2u * (m * params.chunks + c);
    return Eight(x[place], x[place + 1u]);
}
