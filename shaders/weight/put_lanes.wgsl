fn put_texel(i: u32, v: vec4<u32>) {
    textureStore(w, vec2(i % TEXTURE_WIDTH, i / TEXTURE_WIDTH), v);
}

// Layout for subgroups: see `Order::Lanes` in `form.rs`.
fn put(row: u32, unit: u32, units: u32, v: vec4<u32>) {
    let group = 4u * params.lanes;
    put_texel((row / group * units + unit) * group + row % 4u * params.lanes + row / 4u % params.lanes, v);
}

fn put_factors(quad: u32, pair: u32, blocks: u32, factors: array<vec4<u32>, 2>) {
    let group = quad / params.lanes;
    let lane = quad % params.lanes;
    let a = factors[0];
    let b = factors[1];
    if (FACTORS == 1u) {
        let place = params.scales + (group * ((blocks + 1u) / 2u) + pair) * params.lanes + lane;
        put_texel(place, vec4(a.x | (a.y << 16u), a.z | (a.w << 16u), b.x | (b.y << 16u), b.z | (b.w << 16u)));
    }
    if (FACTORS == 2u) {
        let place = params.scales + (group * blocks + 2u * pair) * params.lanes + lane;
        put_texel(place, a);
        if (2u * pair + 1u < blocks) {
            put_texel(place + params.lanes, b);
        }
    }
}
