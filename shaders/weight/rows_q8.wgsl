// Half a block of 32: 16 bytes of numbers, and the block's scale.
struct Unit {
    q: vec4<u32>,
    scale: vec2<f32>,
}

fn unit_at(row: u32, unit: u32) -> Unit {
    let blocks = (params.chunks + 3u) / 4u;
    return Unit(w[row * 2u * blocks + unit], scale_of_q8(half_at(row, unit / 2u, blocks)));
}

// The f16 factor of a block, in the lower half: eight per vector, with rows padded to whole pairs.
fn half_at(row: u32, block: u32, blocks: u32) -> u32 {
    let place = row * ((blocks + 1u) & ~1u) + block;
    let word = w[params.scales + place / 8u][place / 2u % 4u];
    return word >> (16u * (block & 1u));
}

fn chunk_of(unit: Unit, j: u32) -> Eight {
    return scaled(q8_chunk(unit.q, j), unit.scale);
}

fn raw_chunk(unit: Unit, j: u32) -> Eight {
    return q8_chunk(unit.q, j);
}
