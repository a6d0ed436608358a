override WG: u32;

// Maps 32 random bits to a number of mean 0: the sum of the four bytes, an Irwin-Hall distribution that ends at 3.45 standard deviations. Whole numbers and a
// single product: every device computes the same bits.
fn bell(bits: u32) -> f32 {
    let pairs = (bits & 0x00ff00ffu) + ((bits >> 8u) & 0x00ff00ffu);
    return f32(i32((pairs & 0xffffu) + (pairs >> 16u)) - 510) * params.scale;
}

// Two neighboring values of a stored row; the counter is (row, pair of columns).
fn pair_at(row: u32, pair: u32) -> vec2<f32> {
    let bits = threefry(params.seed, vec2(row, pair));
    return vec2(bell(bits.x), bell(bits.y));
}

// The value at a column of a half, 0 in the padding.
fn value_at(row: u32, half: u32, column: u32) -> f32 {
    if (column >= params.k) {
        return 0.0;
    }
    let stored = half * params.k + column;
    return pair_at(row, stored >> 1u)[stored & 1u];
}

// One lane per chunk of eight. The fast path needs whole pairs: an even start and no padding.
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = group.x * WG + lane;
    if (chunk >= params.chunks * params.halves) {
        return;
    }
    let half = chunk / params.chunks;
    let column = (chunk % params.chunks) * 8u;
    for (var i = group.y; i < params.count; i += groups.y) {
        var row = params.first + i;
        if (row < params.in_turn) {
            let at = row % params.span;
            row = row - at + (at & 1u) * (params.span / 2u) + (at >> 1u);
        }
        var v: Eight;
        if ((params.k & 1u) == 0u && column + 8u <= params.k) {
            let pair = (half * params.k + column) >> 1u;
            v.lo = vec4(pair_at(row, pair), pair_at(row, pair + 1u));
            v.hi = vec4(pair_at(row, pair + 2u), pair_at(row, pair + 3u));
        } else {
            for (var j = 0u; j < 4u; j += 1u) {
                v.lo[j] = value_at(row, half, column + j);
                v.hi[j] = value_at(row, half, column + 4u + j);
            }
        }
        let place = 2u * (i * params.chunks * params.halves + chunk);
        w[place] = v.lo;
        w[place + 1u] = v.hi;
    }
}
