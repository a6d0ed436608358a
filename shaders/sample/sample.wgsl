override WG: u32;

// Largest magnitude of a logit, and the logit of padding after the vocabulary. Differences of logits stay finite.
const LARGEST = 1.5e38;
const PADDING = -1.6e38;

fn sum(at: Lane, value: vec4<f32>) -> f32 {
    return dot(reduce_sum4(at, value), vec4(1.0));
}

// Tokens of a quad.
fn tokens_of(quad: u32) -> vec4<u32> {
    return 4u * quad + vec4(0u, 1u, 2u, 3u);
}

// Logits of a quad, divided by the temperature.
fn logits_of(start: u32, quad: u32, temperature: f32) -> vec4<f32> {
    // Banned tokens are far below all others already.
    let logits = clamp(probs[start + quad] / temperature, vec4(-LARGEST), vec4(LARGEST));
    return select(vec4(PADDING), logits, tokens_of(quad) < vec4(params.vocab));
}

// Token below which `wanted` tokens have exactly this weight.
fn bound_of_ties(at: Lane, start: u32, weight: f32, wanted: f32) -> u32 {
    var low = 0u;
    var high = params.vocab;
    while (low < high) {
        let middle = (low + high) / 2u;
        var ties = vec4<f32>();
        for (var quad = at.index; quad <= middle / 4u; quad += WG) {
            let equal = (probs[start + quad] == vec4(weight)) & (tokens_of(quad) <= vec4(middle));
            ties += select(vec4(0.0), vec4(1.0), equal);
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

// One workgroup per read-out; each lane handles the same quads of tokens in every iteration over the vocabulary. In the authors' order, after the penalties:
// temperature, softmax, top-k (keeps ties), top-p (keeps the crossing token), min-p, one renormalization. The logits become weights, probabilities divided by
// the largest, and in the end the filtered probabilities. The choice is a race of exponential clocks: the token with the largest weight/e wins, which draws each
// token with its probability and needs no running sum.
fn run(at: Lane) {
    let output = at.group.x;
    let row = picked[output];
    if (row.live == 0u) {
        return;
    }
    let rule = samplers[row.sequence];
    let start = output * (params.stride / 4u);
    let quads = (params.vocab + 3u) / 4u;
    let greedy = rule.temperature <= 0.0;
    let temperature = select(rule.temperature, 1.0, greedy);

    var highest = vec4(PADDING);
    for (var quad = at.index; quad < quads; quad += WG) {
        highest = max(highest, logits_of(start, quad, temperature));
    }
    let best = reduce_max(at, max(max(highest.x, highest.y), max(highest.z, highest.w)));

    let by_count = !greedy && rule.top_k > 0u && rule.top_k < params.vocab;
    let by_mass = !greedy && rule.top_p < 1.0;
    begin_search(at);
    var masses = vec4<f32>();
    var first = vec4(params.vocab);
    for (var quad = at.index; quad < quads; quad += WG) {
        let logits = logits_of(start, quad, temperature);
        first = min(first, select(vec4(params.vocab), tokens_of(quad), logits == vec4(best)));
        // Some devices take numbers below the smallest normal one for 0, so all do here.
        var weights = min(exp(logits - best), vec4(1.0));
        weights = select(vec4(0.0), weights, weights >= vec4(LEAST));
        probs[start + quad] = weights;
        masses += weights;
    }
    let total = sum(at, masses);
    var lowest = 0u;
    if (greedy) {
        // A token id is below 2^24, so an f32 holds it exactly.
        lowest = u32(-reduce_max(at, -f32(min(min(first.x, first.y), min(first.z, first.w)))));
    }

    var floor = 0.0;
    var ties = params.vocab;
    if (by_count || by_mass) {
        let wanted_mass = rule.top_p * total;
        for (var level = 0u; level < LEVELS; level += 1u) {
            tally(at, start, level, by_count, by_mass);
            end_level(at, level, rule.top_k, wanted_mass);
        }
        if (by_count) {
            floor = bitcast<f32>(count_bits);
        }
        let crossing = bitcast<f32>(mass_bits);
        if (by_mass && crossing >= floor) {
            floor = crossing;
            let wanted = max(ceil((wanted_mass - mass_above) / crossing), 1.0);
            if (wanted < mass_ties) {
                ties = bound_of_ties(at, start, crossing, wanted);
            }
        }
    }
    if (rule.min_p > floor) {
        floor = rule.min_p;
        ties = params.vocab;
    }

    let seed = sequences[row.sequence].seed;
    var kept = vec4<f32>();
    var winner = -1.0;
    var token = 0u;
    for (var quad = at.index; quad < quads; quad += WG) {
        let weights = probs[start + quad];
        let tokens = tokens_of(quad);
        let sampled = (weights > vec4(floor)) | ((weights == vec4(floor)) & (tokens < vec4(ties)));
        let filtered = select(vec4(0.0), weights, select(sampled, tokens == vec4(lowest), vec4(greedy)));
        probs[start + quad] = filtered;
        kept += filtered;
        for (var i = 0u; i < 4u; i += 1u) {
            if (filtered[i] > 0.0) {
                let clock = exponential(threefry(vec2(seed.x, seed.y ^ STREAM), vec2(row.position, tokens[i])).x);
                let score = filtered[i] / clock;
                if (score > winner) {
                    winner = score;
                    token = tokens[i];
                }
            }
        }
    }
    let mass = sum(at, kept);
    for (var quad = at.index; quad < quads; quad += WG) {
        probs[start + quad] /= mass;
    }
    let largest_score = reduce_max(at, winner);
    let chosen_token = -reduce_max(at, select(-16777216.0, -f32(token), winner == largest_score));
    if (at.index == 0u) {
        chosen[output] = u32(chosen_token);
    }
}
