const UNIT: u32 = 1u;
alias Unit = vec4<u32>;

// Where the lanes of a subgroup have it: see Resident in Rust.
fn unit_at(row: u32, unit: u32) -> Unit {
    let group = 4u * params.lanes;
    let line = row / group * ((params.chunks + 3u) & ~3u) + unit;
    return texel(line * group + row % 4u * params.lanes + row / 4u % params.lanes);
}

fn chunk_of(unit: Unit, j: u32) -> Eight {
    return eight_of_bf16(unit);
}
