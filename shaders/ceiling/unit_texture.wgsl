// The sixteen loads of a workgroup in one round never cross the end of a texture row.
fn place(i: u32) -> vec2<u32> {
    return vec2(i % TEXTURE_WIDTH, i / TEXTURE_WIDTH);
}

fn unit(at: vec2<u32>, offset: u32) -> vec4<u32> {
    return textureLoad(x, vec2(at.x + offset, at.y));
}
