override WG: u32;

// One invocation moves one quad of a row. Surplus invocations write the last quad again, so nothing branches.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = 8u * ((params.chunks + 3u) / 4u);
    let texels = (params.rows + 7u) / 8u * 8u * quads;
    let i = min((group.x + group.y * params.groups_x) * WG + lane, texels - 1u);
    let m = i / (8u * quads) * 8u + i % 8u;
    let v = quad(line(min(m, params.rows - 1u)), i / 8u % quads);
    textureStore(staged, vec2(i % TEXTURE_WIDTH, i / TEXTURE_WIDTH), bitcast<vec4<u32>>(v));
}
