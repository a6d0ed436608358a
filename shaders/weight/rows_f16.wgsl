alias Unit = vec4<u32>;

fn unit_at(row: u32, unit: u32) -> Unit {
    return w[row * params.chunks + unit];
}

fn chunk_of(unit: Unit, j: u32) -> Eight {
    return eight_of_f16(unit);
}
