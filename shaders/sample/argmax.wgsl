override WG: u32;

// One workgroup per read-out. Of equal logits, the lowest token wins.
fn run(at: Lane) {
    let output = at.group.x;
    if (picked[output].live == 0u) {
        return;
    }
    var best = -3.4e38;
    var token = 0u;
    for (var v = at.index; v < params.vocab; v += WG) {
        let logit = logits[output * params.stride + v];
        if (logit > best) {
            best = logit;
            token = v;
        }
    }
    let largest = reduce_max(at, best);
    // A token id is below 2^24, so an f32 holds it exactly.
    let lowest = -reduce_max(at, select(-16777216.0, -f32(token), best == largest));
    if (at.index == 0u) {
        chosen[output] = u32(lowest);
    }
}
