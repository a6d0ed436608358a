override WG: u32;

// Loads 32 values of row `i` of x; zeros outside of x.
fn block_at(i: u32, b: u32) -> Values {
    var v: Values;
    for (var q = 0u; q < 8u; q += 1u) {
        if (i < params.count && 8u * b + q < 2u * params.chunks) {
            v[q] = x[i * 2u * params.chunks + 8u * b + q];
        }
    }
    return v;
}

// One lane processes two blocks of four rows: in any form, only these share a word of factors.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let pair = group.x * WG + lane;
    let blocks = (params.chunks + 3u) / 4u;
    if (2u * pair >= blocks) {
        return;
    }
    for (var quad = group.y; 4u * quad < params.padded; quad += params.quads_at_once) {
        var factors: array<vec4<u32>, 2>;
        for (var h = 0u; h < 2u && 2u * pair + h < blocks; h += 1u) {
            for (var r = 0u; r < 4u; r += 1u) {
                let b = 2u * pair + h;
                let packed = packed_of(block_at(4u * quad + r, b));
                for (var u = 0u; u < UNITS; u += 1u) {
                    put(params.first + 4u * quad + r, UNITS * b + u, UNITS * blocks, packed.units[u]);
                }
                factors[h][r] = packed.factor;
            }
        }
        put_factors(params.first / 4u + quad, pair, blocks, factors);
    }
}
