override WG: u32;

// One workgroup per row: copies those that are read out to their place among the outputs, activation and table entry. The entry of a row that rests
// now rests too.
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
