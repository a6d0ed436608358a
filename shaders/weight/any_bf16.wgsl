fn unit_at(row: u32, unit: u32) -> Unit {
    return eight_of_bf16(texel_at(row, unit, 1u, 0u));
}
