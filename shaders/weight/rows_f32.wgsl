alias Unit = Eight;

fn unit_at(row: u32, unit: u32) -> Unit {
    let place = 2u * (row * params.chunks + unit);
    return Eight(w[place], w[place + 1u]);
}

fn chunk_of(unit: Unit, j: u32) -> Eight {
    return unit;
}
