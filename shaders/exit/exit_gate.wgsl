override WG: u32;

// One workgroup per row: adds the probability that the row exits at this step to the probability that it has exited by now. Every step counts, checked or not.
// The padding is zero in state and w.
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
        // The exponent is not positive, so exp cannot overflow.
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
