override WG: u32;

fn sum(at: Lane, value: f32) -> f32 {
    return reduce_sum4(at, vec4(value, 0.0, 0.0, 0.0)).x;
}

// Number of tokens with at least this probability, and the sum of their probabilities.
fn at_least(at: Lane, start: u32, floor: f32) -> vec2<f32> {
    var found = vec4<f32>();
    for (var v = at.index; v < params.vocab; v += WG) {
        let p = probs[start + v];
        if (p >= floor) {
            found += vec4(1.0, p, 0.0, 0.0);
        }
    }
    return reduce_sum4(at, found).xy;
}

// Token below which `wanted` tokens have exactly this probability.
fn bound_of_ties(at: Lane, start: u32, p: f32, wanted: f32) -> u32 {
    var low = 0u;
    var high = params.vocab;
    while (low < high) {
        let middle = (low + high) / 2u;
        var ties = 0.0;
        for (var v = at.index; v <= middle; v += WG) {
            ties += select(0.0, 1.0, probs[start + v] == p);
        }
        if (sum(at, ties) >= wanted) {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    return low + 1u;
}

fn exponential(bits: u32) -> f32 {
    let t = unit(bits);
    // log loses its digits near 1; the series does not.
    if (t < 0.03) {
        return t * (1.0 + t * (0.5 + t * (0.33333333 + t * (0.25 + t * 0.2))));
    }
    return -log(1.0 - t);
}

// One workgroup per read-out. In the authors' order, after the penalties: temperature, softmax, top-k (keeps ties), top-p (keeps the crossing token), min-p,
// one renormalization. The logits become the filtered probabilities. The choice is a race of exponential clocks: the token with the largest p/e wins, which
// draws each token with its probability and needs no running sum.
fn run(at: Lane) {
    let output = at.group.x;
    let row = picked[output];
    if (row.live == 0u) {
        return;
    }
    let rule = samplers[row.sequence];
    let start = output * params.stride;
    var best = -3.4e38;
    for (var v = at.index; v < params.vocab; v += WG) {
        var logit = probs[start + v];
        if (rule.temperature > 0.0) {
            // Banned tokens are far below all others already.
            logit = clamp(logit / rule.temperature, -1.5e38, 1.5e38);
        }
        probs[start + v] = logit;
        best = max(best, logit);
    }
    best = reduce_max(at, best);
    var total = 0.0;
    for (var v = at.index; v < params.vocab; v += WG) {
        let p = exp(probs[start + v] - best);
        probs[start + v] = p;
        total += p;
    }
    total = sum(at, total);
    var largest = 0.0;
    for (var v = at.index; v < params.vocab; v += WG) {
        let p = probs[start + v] / total;
        probs[start + v] = p;
        largest = max(largest, p);
    }
    largest = reduce_max(at, largest);
    storageBarrier();

    var floor = 0.0;
    var ties = params.vocab;
    if (rule.temperature <= 0.0) {
        floor = largest;
        ties = bound_of_ties(at, start, largest, 1.0);
    } else {
        if (rule.top_k > 0u && rule.top_k < params.vocab) {
            floor = threshold(at, start, largest, f32(rule.top_k), 0.0);
        }
        if (rule.top_p < 1.0) {
            let crossing = threshold(at, start, largest, 1.0, rule.top_p);
            if (crossing > floor || (crossing == floor && crossing > 0.0)) {
                let above = at_least(at, start, bitcast<f32>(bitcast<u32>(crossing) + 1u));
                let equal = at_least(at, start, crossing).x - above.x;
                let wanted = max(ceil((rule.top_p - above.y) / crossing), 1.0);
                floor = crossing;
                if (wanted < equal) {
                    ties = bound_of_ties(at, start, crossing, wanted);
                }
            }
        }
        if (rule.min_p * largest > floor) {
            floor = rule.min_p * largest;
            ties = params.vocab;
        }
    }

    var mass = 0.0;
    for (var v = at.index; v < params.vocab; v += WG) {
        var p = probs[start + v];
        if (p < floor || (p == floor && v >= ties)) {
            p = 0.0;
        }
        probs[start + v] = p;
        mass += p;
    }
    mass = sum(at, mass);
    let seed = sequences[row.sequence].seed;
    var winner = -1.0;
    var token = 0u;
    for (var v = at.index; v < params.vocab; v += WG) {
        let p = probs[start + v] / mass;
        probs[start + v] = p;
        if (p > 0.0) {
            let score = p / exponential(threefry(vec2(seed.x, seed.y ^ STREAM), vec2(row.position, v)).x);
            if (score > winner) {
                winner = score;
                token = v;
            }
        }
    }
    let largest_score = reduce_max(at, winner);
    let lowest = -reduce_max(at, select(-16777216.0, -f32(token), winner == largest_score));
    if (at.index == 0u) {
        chosen[output] = u32(lowest);
    }
}
