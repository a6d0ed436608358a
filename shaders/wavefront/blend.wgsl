override WG: u32;

// One workgroup per row: mixes in a share of the previous round's embedding. The first round has no previous one.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (row >= wavefront[0].length || wavefront[0].round == 0u) {
        return;
    }
    let held = row < wavefront[0].kept;
    if (!held && params.scaled == 0u) {
        return;
    }
    for (var i = row * params.quads + lane; i < (row + 1u) * params.quads; i += WG) {
        var e = embedding[i] * (1.0 - params.share);
        if (held) {
            e += before[i] * params.share;
        }
        embedding[i] = e;
    }
}
