fn unit_at(row: u32, unit: u32) -> Unit {
    return eight_of_f32(texel_at(row, unit, 2u, 0u), texel_at(row, unit, 2u, 1u));
}
