override WG: u32;

// One workgroup per row: behind a round, states and embeddings move up to the rows that their positions have now, or to new rows that go on from those in front
// of them, and what the next round compares with is kept.
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
