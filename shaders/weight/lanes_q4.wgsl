fn scales_of(lane: u32, group: u32, blocks: u32, b: u32) -> Scales {
    // A texel of scales serves two blocks.
    let pair = texel(params.scales + (group * ((blocks + 1u) / 2u) + b / 2u) * LANES + lane);
    let halves = select(pair.xy, pair.zw, (b & 1u) == 1u);
    return Scales(scale_of_q4(halves.x), scale_of_q4(halves.x >> 16u), scale_of_q4(halves.y), scale_of_q4(halves.y >> 16u));
}
