// A block of 32: 16 bytes of numbers, and its scale and minimum.
struct Unit {
    q: vec4<u32>,
    scale: vec2<f32>,
}

fn unit_at(row: u32, unit: u32) -> Unit {
    let blocks = (params.chunks + 3u) / 4u;
    let place = row * ((blocks + 1u) & ~1u) + unit;
    return Unit(w[row * blocks + unit], scale_of_q4_1(w[params.scales + place / 4u][place % 4u]));
}

fn chunk_of(unit: Unit, j: u32) -> Eight {
    return scaled(q4_chunk(unit.q, j), unit.scale);
}

fn raw_chunk(unit: Unit, j: u32) -> Eight {
    return q4_chunk(unit.q, j);
}
