alias Unit = Eight;

// Texel `i` of a chunk of `texels` texels, in the layout for subgroups: see `Order::Lanes` in `form.rs`.
fn texel_at(row: u32, chunk: u32, texels: u32, i: u32) -> vec4<u32> {
    let group = 4u * params.lanes;
    let line = (row / group * ((params.chunks + 3u) & ~3u) + chunk) * texels + i;
    return texel(line * group + row % 4u * params.lanes + row / 4u % params.lanes);
}

fn chunk_of(unit: Unit, j: u32) -> Eight {
    return unit;
}
