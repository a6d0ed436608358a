override WG: u32;

// Change of a row in the round before.
fn change_before(row: u32, i: u32, last: vec4<f32>, earlier: u32) -> vec4<f32> {
    if (params.authors == 0u) {
        return last - before[row * params.quads + i];
    }
    if (params.rule == ACCELERATION_1) {
        return before[row * params.quads + i];
    }
    return last - before[earlier * params.quads + i];
}

// One workgroup per row: how far its state has moved in this round, or how far this change differs from that in the round before, as a share of its norm. With
// `authors`, a row is compared with a later one, by as many rows as the last round dropped at the front, as in their code.
fn run(at: Lane) {
    let row = at.group.x;
    let w = wavefront[0];
    if (row >= w.length) {
        return;
    }
    let authors = params.authors != 0u;
    let behind = row + select(0u, w.slip, authors);
    let earlier = behind + w.slip_before;
    var judged = behind < w.length;
    if (params.rule != LATENT_DIFF) {
        let pairs = authors && params.rule == ACCELERATION_2;
        judged = judged && select(row < w.changes, earlier < w.swept, pairs);
    }
    if (!judged) {
        if (at.index == 0u) {
            marks[row].value = UNJUDGED;
        }
        return;
    }
    var sums = vec4<f32>();
    for (var i = at.index; i < params.quads; i += WG) {
        let s = state[row * params.quads + i];
        let last = previous[behind * params.quads + i];
        var change = s - last;
        if (params.rule != LATENT_DIFF) {
            change -= change_before(row, i, last, earlier);
        }
        sums += vec4(dot(change, change), dot(s, s), 0.0, 0.0);
    }
    sums = reduce_sum4(at, sums);
    if (at.index == 0u) {
        let norm = sqrt(sums.y) + select(0.0, 1e-6, params.rule == ACCELERATION_2);
        marks[row].value = sqrt(sums.x) / norm;
    }
}
