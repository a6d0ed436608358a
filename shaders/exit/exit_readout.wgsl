override WG: u32;

fn sum(at: Lane, value: f32) -> f32 {
    return reduce_sum4(at, vec4(value, 0.0, 0.0, 0.0)).x;
}

// One workgroup per read-out: if this step is checked, computes how far the distribution of the next token has moved since the last check. `previous` holds the
// log-probabilities of the last check; before the first check they count as uniform.
fn run(at: Lane) {
    let output = at.group.x;
    if (picked[output].live == 0u) {
        return;
    }
    let asked = exit_params[picked[output].sequence];
    if (!reads_out(asked) || !due(asked, picked[output])) {
        return;
    }
    let start = output * params.stride;
    let last = memo[output];
    var best = -3.4e38;
    var token = 0u;
    for (var v = at.index; v < params.vocab; v += WG) {
        let logit = logits[start + v];
        if (logit > best) {
            best = logit;
            token = v;
        }
    }
    let largest = reduce_max(at, best);
    let chosen = u32(-reduce_max(at, select(-16777216.0, -f32(token), best == largest)));
    var value = 0.0;
    var entropy = 0.0;
    var count = 0u;
    if (asked.criterion == ARGMAX_STABILITY) {
        count = select(0u, last.count + 1u, last.checks > 0u && last.token == chosen);
        value = f32(count);
    } else {
        var total = 0.0;
        for (var v = at.index; v < params.vocab; v += WG) {
            total += exp(logits[start + v] - largest);
        }
        total = sum(at, total);
        let level = largest + log(total);
        let uniform = -log(f32(params.vocab));
        if (asked.criterion == ENTROPY_DIFF) {
            var part = 0.0;
            for (var v = at.index; v < params.vocab; v += WG) {
                let p = exp(logits[start + v] - level);
                part -= p * log(p + 1e-10);
            }
            entropy = sum(at, part);
            value = abs(entropy - select(100.0, last.entropy, last.checks > 0u));
        } else {
            // Logarithm of the sum of probabilities after min-p has leveled the unlikely tokens.
            var norm = 0.0;
            let floor = select(-3.4e38, largest - level + log(SHARE), asked.criterion == MIN_P_KL);
            if (asked.criterion == MIN_P_KL) {
                var mass = 0.0;
                for (var v = at.index; v < params.vocab; v += WG) {
                    let l = logits[start + v] - level;
                    mass += exp(select(l, uniform, l < floor));
                }
                norm = log(sum(at, mass));
            }
            var part = 0.0;
            for (var v = at.index; v < params.vocab; v += WG) {
                let l = logits[start + v] - level;
                let now = select(l, uniform, l < floor) - norm;
                let before = select(uniform, previous[start + v], last.checks > 0u);
                part += exp(before) * (before - now);
                previous[start + v] = now;
            }
            value = sum(at, part);
        }
    }
    if (at.index == 0u) {
        memo[output] = Memo(last.checks + 1u, chosen, count, entropy, value, 0.0, vec2<u32>());
        if (last.checks < KEPT_VALUES) {
            values[output * KEPT_VALUES + last.checks] = value;
        }
    }
}
