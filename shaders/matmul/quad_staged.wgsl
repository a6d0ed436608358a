// Start of row m of a staged x, in texels: eight rows are interleaved.
fn line(m: u32) -> u32 {
    return (m / 8u) * 64u * ((params.chunks + 3u) / 4u) + m % 8u;
}

// Quad q of the row that begins at `start`. Staged rows are padded with zeros.
fn quad(start: u32, q: u32) -> vec4<f32> {
    let at = start + 8u * q;
    return bitcast<vec4<f32>>(textureLoad(x, vec2(at % TEXTURE_WIDTH, at / TEXTURE_WIDTH)));
}
