// Texel `i` of a texture that is read as one long line.
fn texel(i: u32) -> vec4<u32> {
    return textureLoad(w, vec2(i % TEXTURE_WIDTH, i / TEXTURE_WIDTH));
}
