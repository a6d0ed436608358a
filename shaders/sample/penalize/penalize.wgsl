override WG: u32;

// Bit in the mark of a token that the penalty's window contains; the other bits are the length of a repeated match.
const SEEN: u32 = 0x80000000u;

// Logit clamped to the finite range. NaN is detected by its bits, because compilers may assume that it never occurs.
fn sane(logit: f32) -> f32 {
    let number = (bitcast<u32>(logit) & 0x7fffffffu) <= 0x7f800000u;
    return select(-MOST, clamp(logit, -MOST, MOST), number);
}

fn breaks(sequence: u32, token: u32) -> bool {
    let words = (params.vocab + 31u) / 32u;
    return token < params.vocab && ((breakers[sequence * words + token / 32u] >> (token % 32u)) & 1u) != 0u;
}

// Start of the last `window` of `length` tokens; a window of 0 means all.
fn first_of(length: u32, window: u32) -> u32 {
    return select(0u, length - window, window > 0u && window < length);
}

fn power(base: f32, exponent: u32) -> f32 {
    var result = 1.0;
    var square = base;
    for (var rest = exponent; rest > 0u; rest /= 2u) {
        if ((rest & 1u) != 0u) {
            result *= square;
        }
        if (rest > 1u) {
            square *= square;
        }
    }
    return result;
}

// Marks each token that continued an earlier occurrence of the last tokens with the length of the longest such match. Neither a match nor its continuation
// contains a breaker.
fn mark_repeats(row: Row, rule: Penalties, marked: u32, lane: u32) {
    let past = row.sequence * params.context;
    let end = row.position;
    let last = history[past + end];
    let begin = first_of(end + 1u, rule.dry_range);
    if (breaks(row.sequence, last)) {
        return;
    }
    for (var i = begin + lane; i < end; i += WG) {
        let next = history[past + i + 1u];
        if (history[past + i] != last || next >= params.vocab || breaks(row.sequence, next)) {
            continue;
        }
        let most = min(i - begin + 1u, rule.dry_longest);
        var length = 1u;
        while (length < most) {
            let token = history[past + i - length];
            if (token != history[past + end - length] || breaks(row.sequence, token)) {
                break;
            }
            length += 1u;
        }
        atomicMax(&marks[marked + next], length);
    }
}

fn mark_seen(row: Row, rule: Penalties, marked: u32, lane: u32) {
    let length = row.position + 1u;
    for (var i = first_of(length, rule.repeat_window) + lane; i < length; i += WG) {
        let token = history[row.sequence * params.context + i];
        if (token < params.vocab) {
            atomicOr(&marks[marked + token], SEEN);
        }
    }
}

// One workgroup per read-out: bias, repetition penalty, DRY, in this order.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let output = group.x;
    let row = picked[output];
    if (row.live == 0u) {
        return;
    }
    let rule = penalties[row.sequence];
    let marked = output * params.vocab;
    let dry = rule.dry_multiplier > 0.0;
    let past = dry || rule.repeat_penalty != 1.0;
    if (past) {
        for (var v = lane; v < params.vocab; v += WG) {
            atomicStore(&marks[marked + v], 0u);
        }
    }
    storageBarrier();
    if (dry) {
        mark_repeats(row, rule, marked, lane);
    }
    storageBarrier();
    if (rule.repeat_penalty != 1.0) {
        mark_seen(row, rule, marked, lane);
    }
    storageBarrier();
    for (var v = lane; v < params.vocab; v += WG) {
        var logit = logits[output * params.stride + v];
        if (rule.biased != 0u) {
            logit += bias[row.sequence * params.vocab + v];
        }
        logit = sane(logit);
        if (past) {
            let mark = atomicLoad(&marks[marked + v]);
            if ((mark & SEEN) != 0u) {
                logit = select(logit * rule.repeat_penalty, logit / rule.repeat_penalty, logit > 0.0);
            }
            let length = mark & ~SEEN;
            if (dry && length >= rule.dry_allowed) {
                logit -= rule.dry_multiplier * power(rule.dry_base, length - rule.dry_allowed);
            }
        }
        edited[output * params.stride + v] = sane(logit);
    }
}
