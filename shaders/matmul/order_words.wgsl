// Packs eight numbers into two words in order, as in q8.
fn words_of(lo: vec4<u32>, hi: vec4<u32>) -> vec2<u32> {
    return vec2(lo.x | (lo.y << 8u) | (lo.z << 16u) | (lo.w << 24u), hi.x | (hi.y << 8u) | (hi.z << 16u) | (hi.w << 24u));
}
