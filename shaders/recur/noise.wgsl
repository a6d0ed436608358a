override WG: u32;

// Share of the state that noise replaces.
fn share_of(entry: SequenceNoise, step: u32, chance: f32) -> f32 {
    let i = f32(step);
    switch (entry.kind) {
        case FIXED: {
            return entry.amount;
        }
        case GEOM: {
            return entry.amount / (i + 1.0);
        }
        case SQRT: {
            return entry.amount / sqrt(i + 1.0);
        }
        case LINE: {
            return max(entry.amount, (entry.steps - i) / entry.steps);
        }
        default: {
            return 2.0 * chance * entry.amount;
        }
    }
}

// One workgroup per row. Every position and step has its own key, so the noise depends on nothing else. The padding of the state stays zero.
fn run(at: Lane) {
    let row = rows[at.group.x];
    let entry = sequence_noise[row.sequence];
    if (row.live == 0u || entry.kind == NONE) {
        return;
    }
    let seed = sequences[row.sequence].seed;
    let key = threefry(vec2(seed.x, seed.y ^ STREAM), vec2(row.position, row.step));
    let share = share_of(entry, row.step, unit(threefry(key, vec2(0u, 1u)).x));
    let start = at.group.x * params.quads;
    var squares = vec4<f32>();
    for (var i = at.index; i < params.quads; i += WG) {
        let drawn = normals_within(1.0, key, i);
        var x = state[start + i] * (1.0 - share) + drawn * share;
        x = select(vec4<f32>(), x, 4u * i + vec4(0u, 1u, 2u, 3u) < vec4(params.n));
        state[start + i] = x;
        squares += x * x;
    }
    if (entry.renorm != 0u) {
        let sums = reduce_sum4(at, squares);
        let scale = inverseSqrt((sums.x + sums.y + sums.z + sums.w) / f32(params.n) + params.eps);
        for (var i = at.index; i < params.quads; i += WG) {
            state[start + i] *= scale * w[i];
        }
    }
}
