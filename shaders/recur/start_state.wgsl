override WG: u32;

// One workgroup per row copies the embedding. A row past step 0 keeps its state.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[group.x];
    if (row.live == 0u || row.draw == 0u || row.step > 0u) {
        return;
    }
    for (var i = lane; i < params.quads; i += WG) {
        state[group.x * params.quads + i] = embedding[group.x * params.quads + i];
    }
}
