override WG: u32;

// One workgroup per row: if this step is checked, computes how far the state has moved since the last check. The padding is zero in both states.
fn run(at: Lane) {
    let row = at.group.x;
    if (rows[row].live == 0u) {
        return;
    }
    let asked = exit_params[rows[row].sequence];
    if (reads_out(asked) || asked.criterion == GATE || !due(asked, rows[row])) {
        return;
    }
    var sums = vec4<f32>();
    for (var i = at.index; i < params.quads; i += WG) {
        let now = state[row * params.quads + i];
        let before = previous[row * params.quads + i];
        let moved = now - before;
        sums += vec4(dot(moved, moved), dot(now, now), dot(before, before), dot(now, before));
        previous[row * params.quads + i] = now;
    }
    sums = reduce_sum4(at, sums);
    if (at.index == 0u) {
        var value = sqrt(sums.x) / max(sqrt(sums.y), 1e-30);
        if (asked.criterion == COSINE) {
            value = 1.0 - sums.w / max(sqrt(sums.y) * sqrt(sums.z), 1e-8);
        }
        let check = memo[row].checks;
        memo[row].checks = check + 1u;
        memo[row].value = value;
        if (check < KEPT_VALUES) {
            values[row * KEPT_VALUES + check] = value;
        }
    }
}
