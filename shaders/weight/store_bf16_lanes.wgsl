// Stores where the lanes of a subgroup look for it: see Form in Rust.
fn store(chunk: u32, v: Eight) {
    let chunks = params.chunks * params.halves;
    let row = chunk / chunks;
    let line = row / (4u * params.lanes) * ((chunks + 3u) & ~3u) + chunk % chunks;
    let texel = line * 4u * params.lanes + row % 4u * params.lanes + row / 4u % params.lanes;
    textureStore(w, vec2(texel % TEXTURE_WIDTH, texel / TEXTURE_WIDTH), bf16_of_eight(v));
}
