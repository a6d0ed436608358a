override WG: u32;

struct Candidate {
    logit: f32,
    token: u32,
}

// Clamped logit, with NaN as the least likely. NaN is detected by its bits, because compilers may assume that it never occurs.
fn logit_at(place: u32) -> f32 {
    let logit = logits[place];
    let number = (bitcast<u32>(logit) & 0x7fffffffu) <= 0x7f800000u;
    return select(-MOST, clamp(logit, -MOST, MOST), number);
}

// The lane's most likely token among those ranked after `behind`: by logit; of equal ones, the lower token first.
fn next_of_lane(at: Lane, start: u32, behind: Candidate) -> Candidate {
    var best = Candidate(-3.4e38, 0u);
    for (var v = at.index; v < params.vocab; v += WG) {
        let logit = logit_at(start + v);
        if (logit > best.logit && (logit < behind.logit || (logit == behind.logit && v > behind.token))) {
            best = Candidate(logit, v);
        }
    }
    return best;
}

// One workgroup per read-out. Every lane keeps the best of its remaining tokens; only the lane whose token was taken searches again.
fn run(at: Lane) {
    let output = at.group.x;
    if (picked[output].live == 0u) {
        return;
    }
    let start = output * params.stride;
    var mine = next_of_lane(at, start, Candidate(3.4e38, 0u));
    let largest = reduce_max(at, mine.logit);
    var total = 0.0;
    for (var v = at.index; v < params.vocab; v += WG) {
        total += exp(logit_at(start + v) - largest);
    }
    let level = log(reduce_sum4(at, vec4(total, 0.0, 0.0, 0.0)).x);
    let first = output * (params.count + 1u);
    if (at.index == 0u) {
        let token = min(chosen[output], params.vocab - 1u);
        ranked[first] = token;
        logprobs[first] = logit_at(start + token) - largest - level;
    }
    for (var rank = 1u; rank <= params.count; rank += 1u) {
        let logit = reduce_max(at, mine.logit);
        // A token id is below 2^24, so an f32 holds it exactly.
        let token = u32(-reduce_max(at, select(-16777216.0, -f32(mine.token), mine.logit == logit)));
        if (at.index == 0u) {
            ranked[first + rank] = token;
            logprobs[first + rank] = logit - largest - level;
        }
        if (token % WG == at.index) {
            mine = next_of_lane(at, start, Candidate(logit, token));
        }
    }
}
