override WG: u32;

// One workgroup per row: the normed state of a row that is read out becomes its state, if its sequence continues from normed states.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[group.x];
    if (row.live == 0u || row.output == NONE || exit_params[row.sequence].continuous != NORMED) {
        return;
    }
    for (var i = lane; i < params.quads; i += WG) {
        state[group.x * params.quads + i] = normed[group.x * params.quads + i];
    }
}
