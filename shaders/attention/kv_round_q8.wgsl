// Rounds to blocks of 32 with a common factor.

fn largest_of_eight(v: Eight) -> f32 {
    let most = max(abs(v.lo), abs(v.hi));
    return max(max(most.x, most.y), max(most.z, most.w));
}

// Factor of a block, as f16 bits, from its largest magnitude. Values too large for the largest factor saturate.
fn factor_of_block(largest: f32) -> u32 {
    return f16_bits(min(largest * (4096.0 / 127.0), 65504.0));
}

fn word_of(v: vec4<f32>, inverse: f32) -> u32 {
    let n = numbers_of(v, 0.0, inverse, 128.0, 1.0, 255.0);
    return n.x | (n.y << 8u) | (n.z << 16u) | (n.w << 24u);
}
