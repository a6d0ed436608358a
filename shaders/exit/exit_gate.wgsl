override WG: u32;

// One workgroup per row: the gate's probability of leaving at this step, and how likely it is that the row has left by now. Every step counts, also one that is
// not checked. The padding is zero in state and w.
fn run(at: Lane) {
    let row = at.group.x;
    if (rows[row].live == 0u || exit_params[rows[row].sequence].criterion != GATE) {
        return;
    }
    var products = vec4<f32>();
    for (var i = at.index; i < params.quads; i += WG) {
        products += state[row * params.quads + i] * w[i];
    }
    products = reduce_sum4(at, products);
    if (at.index == 0u) {
        let logit = products.x + products.y + products.z + products.w + w[params.quads].x;
        // No power of e that overflows.
        let e = exp(-abs(logit));
        let leaves = select(e, 1.0, logit >= 0.0) / (1.0 + e);
        let last = memo[row];
        let survival = select(1.0, last.survival, last.checks > 0u);
        let value = select(0.0, last.value, last.checks > 0u) + leaves * survival;
        memo[row].checks = last.checks + 1u;
        memo[row].survival = survival * (1.0 - leaves);
        memo[row].value = value;
        if (last.checks < KEPT_VALUES) {
            values[row * KEPT_VALUES + last.checks] = value;
        }
    }
}
