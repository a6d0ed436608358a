override WG: u32;

struct Params {
    rows: u32,
    quads: u32,
}

// One workgroup per row: forgets earlier checks, and keeps the initial state to compare the first new one with.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (lane == 0u) {
        memo[row] = Memo(0u, 0u, 0u, 0.0, 0.0, 0u, 0u, 0u);
    }
    if (rows[row].live == 0u) {
        return;
    }
    for (var i = lane; i < params.quads; i += WG) {
        previous[row * params.quads + i] = state[row * params.quads + i];
    }
}
