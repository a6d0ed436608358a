// The chunks of a matrix counted row after row, found where the lanes of a subgroup have them: see Form in Rust.
fn weight(chunk: u32) -> Eight {
    let row = chunk / params.chunks;
    let line = row / (4u * params.lanes) * ((params.chunks + 3u) & ~3u) + chunk % params.chunks;
    let texel = line * 4u * params.lanes + row % 4u * params.lanes + row / 4u % params.lanes;
    return eight_of_bf16(textureLoad(w, vec2(texel % TEXTURE_WIDTH, texel / TEXTURE_WIDTH)));
}
