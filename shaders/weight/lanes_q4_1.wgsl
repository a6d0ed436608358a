fn scales_of(lane: u32, group: u32, blocks: u32, b: u32) -> Scales {
    let all = texel(params.scales + (group * blocks + b) * LANES + lane);
    return Scales(scale_of_q4_1(all.x), scale_of_q4_1(all.y), scale_of_q4_1(all.z), scale_of_q4_1(all.w));
}
