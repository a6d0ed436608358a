// Searches for two thresholds at once: the largest weight that at least `wanted` tokens reach, and the largest weight whose tokens, with all above, have at
// least a wanted mass. Weights are at most 1, and the bits of positive floats are ordered like the floats, so a threshold is found from its highest bits down:
// each level counts the weights that share the bits found so far by the next 8 bits. Four levels find the 30 bits, each in one iteration over the vocabulary.
//
// Counts and masses are sums of integers, so they do not depend on the order of the lanes. A mass is a sum of significands, which have 24 bits; its lower and
// upper 12 bits are summed apart, so that vocabularies of up to 2^20 tokens do not overflow.
const LEVELS = 4u;

// Smallest normal number.
const LEAST = 1.17549435e-38;

var<workgroup> counts: array<atomic<u32>, BINS>;
var<workgroup> lower_masses: array<atomic<u32>, BINS>;
var<workgroup> upper_masses: array<atomic<u32>, BINS>;

// Bits found so far of the threshold by count, and tokens that are still wanted.
var<workgroup> count_bits: u32;
var<workgroup> count_left: u32;
// Bits found so far of the threshold by mass, the mass of the tokens above those bits, and, after the last level, the number of tokens at the threshold.
var<workgroup> mass_bits: u32;
var<workgroup> mass_above: f32;
var<workgroup> mass_ties: f32;

// Lowest bit that a level finds.
fn lowest_bit(level: u32) -> u32 {
    return 22u - min(8u * level, 22u);
}

fn clear_bins(at: Lane) {
    for (var bin = at.index; bin < BINS; bin += WG) {
        atomicStore(&counts[bin], 0u);
        atomicStore(&lower_masses[bin], 0u);
        atomicStore(&upper_masses[bin], 0u);
    }
    workgroupBarrier();
}

fn begin_search(at: Lane) {
    if (at.index == 0u) {
        count_bits = 0u;
        mass_bits = 0u;
        mass_above = 0.0;
    }
    clear_bins(at);
}

// Whether the weights of a quad share the bits of a threshold that are found, from bit `high` on. Weights of 0 never do.
fn shares(bits: vec4<u32>, found: u32, high: u32) -> vec4<bool> {
    return ((bits >> vec4(high)) == vec4(found >> high)) & (bits > vec4(0u));
}

// Counts the weights of a row in the bins of a level.
fn tally(at: Lane, start: u32, level: u32, by_count: bool, by_mass: bool) {
    let low = lowest_bit(level);
    let high = select(lowest_bit(level - 1u), 30u, level == 0u);
    let quads = (params.vocab + 3u) / 4u;
    var quad = at.index;
    while (quad < quads) {
        // A loop of its own passes over the quads that are not counted: software drivers run branches that no lane takes, but not such iterations.
        var bits = vec4<u32>();
        var counted = vec4<bool>();
        var massed = vec4<bool>();
        loop {
            bits = bitcast<vec4<u32>>(probs[start + quad]);
            counted = shares(bits, count_bits, high) & vec4(by_count);
            massed = shares(bits, mass_bits, high) & vec4(by_mass);
            if (any(counted | massed) || quad + WG >= quads) {
                break;
            }
            quad += WG;
        }
        for (var i = 0u; i < 4u; i += 1u) {
            let bin = extractBits(bits[i], low, high - low);
            if (counted[i]) {
                atomicAdd(&counts[bin], 1u);
            }
            if (massed[i]) {
                let significand = (bits[i] & 0x7fffffu) | 0x800000u;
                atomicAdd(&lower_masses[bin], significand & 4095u);
                atomicAdd(&upper_masses[bin], significand >> 12u);
            }
        }
        quad += WG;
    }
}

// Chooses the bin that holds the threshold by count: the highest one that, with all above, has enough tokens; without such a bin, the lowest that has any.
fn choose_by_count(low: u32) {
    var left = count_left;
    var chosen_bin = 0u;
    for (var i = BINS; i > 0u; i -= 1u) {
        let count = atomicLoad(&counts[i - 1u]);
        if (count > 0u) {
            chosen_bin = i - 1u;
            if (count >= left) {
                break;
            }
            left -= count;
        }
    }
    count_left = left;
    count_bits |= chosen_bin << low;
}

// Chooses the bin that holds the threshold by mass, likewise.
fn choose_by_mass(low: u32, wanted: f32) {
    let found = mass_bits;
    var bits = found;
    var above = mass_above;
    var with_bin = above;
    var upper = 0u;
    for (var i = BINS; i > 0u; i -= 1u) {
        let summed = atomicLoad(&upper_masses[i - 1u]);
        if (summed > 0u) {
            upper = summed;
            bits = found | ((i - 1u) << low);
            above = with_bin;
            // All weights of a bin have the same exponent.
            let power = bitcast<f32>(bits & 0x7f800000u);
            with_bin += power * (f32(upper) / 2048.0 + f32(atomicLoad(&lower_masses[i - 1u])) / 8388608.0);
            if (with_bin >= wanted) {
                break;
            }
        }
    }
    mass_bits = bits;
    mass_above = above;
    // At the last level, a bin has one weight, so its sum is a multiple of the upper bits.
    mass_ties = f32(upper / (((bits & 0x7fffffu) | 0x800000u) >> 12u));
}

// Ends a level: chooses the bins that hold the thresholds, and prepares the next level.
fn end_level(at: Lane, level: u32, wanted_count: u32, wanted_mass: f32) {
    workgroupBarrier();
    let low = lowest_bit(level);
    if (at.index == 0u) {
        if (level == 0u) {
            count_left = wanted_count;
        }
        choose_by_count(low);
    }
    // Lanes of two subgroups, which work at the same time.
    if (at.index == WG - 1u) {
        choose_by_mass(low, wanted_mass);
    }
    workgroupBarrier();
    clear_bins(at);
}
