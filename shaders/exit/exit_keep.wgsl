override WG: u32;

// One workgroup per row. Keeps the state of the first step whose check meets the criterion. After the loop (`restore`), that state replaces the last one, and
// the row counts as if it had exited there.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = rows[group.x];
    let last = memo[group.x];
    // Lane 0 changes both below, once every lane has read them.
    workgroupBarrier();
    let start = group.x * params.quads;
    if (params.restore != 0u) {
        if (row.live == 0u || last.count == 0u) {
            return;
        }
        for (var i = lane; i < params.quads; i += WG) {
            state[start + i] = kept[start + i];
        }
        if (lane == 0u) {
            rows[group.x].step = last.count;
        }
        return;
    }
    let asked = exit_params[row.sequence];
    if (row.live == 0u || last.count != 0u || !due(asked, row) || last.value < asked.threshold) {
        return;
    }
    for (var i = lane; i < params.quads; i += WG) {
        kept[start + i] = state[start + i];
    }
    if (lane == 0u) {
        memo[group.x].count = row.step + 1u;
    }
}
