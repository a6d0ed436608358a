// Packs eight numbers into two words, those at even positions and those at odd ones, like the lower and upper halves of the bytes of q4.
fn words_of(lo: vec4<u32>, hi: vec4<u32>) -> vec2<u32> {
    return vec2(lo.x | (lo.z << 8u) | (hi.x << 16u) | (hi.z << 24u), lo.y | (lo.w << 8u) | (hi.y << 16u) | (hi.w << 24u));
}
