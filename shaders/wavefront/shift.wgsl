override WG: u32;

// One workgroup per row: after a round, moves states and embeddings to the rows of their positions, gives new rows the states of earlier ones if they start
// from these, and keeps what the next round compares with.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let w = wavefront[0];
    let to = row * params.quads;
    var source = row + w.slip;
    if (row >= w.kept) {
        source = w.swept - min(w.swept, params.headway) + row - w.kept;
    }
    let shifted = row + w.slip_before;
    for (var i = lane; i < params.quads; i += WG) {
        if (row < w.fresh) {
            moved[to + i] = state[source * params.quads + i];
        }
        if (row < w.kept) {
            held[to + i] = embedding[source * params.quads + i];
            if (params.past == ALIGNED) {
                before[to + i] = previous[source * params.quads + i];
            }
        }
        if (params.past == PLACES && row < w.swept) {
            before[to + i] = previous[to + i];
        }
        if (params.past == CHANGES && shifted < w.swept) {
            before[to + i] = state[to + i] - previous[shifted * params.quads + i];
        }
    }
}
