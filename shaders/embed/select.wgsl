override WG: u32;

// One workgroup per row: copies the activation and the table entry of a row that is read out to its place among the outputs. If the row is inactive, its entry
// becomes inactive.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let place = rows[row].output;
    if (place >= params.outputs) {
        return;
    }
    if (rows[row].live == 0u) {
        if (lane == 0u) {
            picked[place].live = 0u;
        }
        return;
    }
    for (var i = lane; i < params.quads; i += WG) {
        y[place * params.quads + i] = x[row * params.quads + i];
    }
    if (lane == 0u) {
        picked[place] = rows[row];
    }
}
