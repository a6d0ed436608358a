struct Unit {
    q: vec4<u32>,
    scale: vec2<f32>,
}

// Layout for subgroups: see `Order::Lanes` in `form.rs`.
fn unit_at(row: u32, unit: u32) -> Unit {
    let group = 4u * params.lanes;
    let blocks = (params.chunks + 3u) / 4u;
    let lane = row / 4u % params.lanes;
    let q = texel((row / group * blocks + unit) * group + row % 4u * params.lanes + lane);
    let s = texel(params.scales + (row / group * ((blocks + 1u) / 2u) + unit / 2u) * params.lanes + lane);
    let halves = s[unit % 2u * 2u + row % 4u / 2u];
    return Unit(q, scale_of_q4(select(halves & 0xffffu, halves >> 16u, (row & 1u) == 1u)));
}

fn chunk_of(unit: Unit, j: u32) -> Eight {
    return scaled(q4_chunk(unit.q, j), unit.scale);
}
