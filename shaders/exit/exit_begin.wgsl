override WG: u32;

// One workgroup per row: clears the memo, and keeps the initial state for comparison with the next one. Rows past step 0 keep both.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (rows[row].live != 0u && rows[row].step > 0u) {
        return;
    }
    if (lane == 0u) {
        memo[row] = Memo();
    }
    if (rows[row].live == 0u) {
        return;
    }
    for (var i = lane; i < params.quads; i += WG) {
        previous[row * params.quads + i] = state[row * params.quads + i];
    }
}
