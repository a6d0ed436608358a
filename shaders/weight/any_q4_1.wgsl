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
    let s = texel(params.scales + (row / group * blocks + unit) * params.lanes + lane);
    return Unit(q, scale_of_q4_1(s[row % 4u]));
}

fn chunk_of(unit: Unit, j: u32) -> Eight {
    return scaled(q4_chunk(unit.q, j), unit.scale);
}
