override WG: u32;

// Random state, distributed like an initial state. Every position and round has its own key.
fn drawn(row: u32, quad: u32) -> vec4<f32> {
    let sequence = sequences[wavefront[0].sequence];
    let key = threefry(vec2(sequence.seed.x, sequence.seed.y ^ STREAM), vec2(wavefront[0].first + row, wavefront[0].round));
    let v = normals_within(WITHIN, key, quad) * sequence.state_std;
    return select(vec4<f32>(), v, 4u * quad + vec4(0u, 1u, 2u, 3u) < vec4(params.n));
}

// One workgroup per row: loads the state that the last round left, stores it in `previous`, and mixes a random one into it. New rows already have their states,
// unless these are given.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (row >= wavefront[0].length) {
        return;
    }
    var share = params.share;
    if (params.dampened != 0u) {
        share /= f32(1u + marks[row].steps);
    }
    let start = row * params.quads;
    for (var i = lane; i < params.quads; i += WG) {
        var s = state[start + i];
        if (row < wavefront[0].fresh) {
            s = moved[start + i];
        } else if (params.given != 0u) {
            s = given[(row - wavefront[0].fresh) * params.quads + i];
        }
        previous[start + i] = s;
        if (share > 0.0) {
            var other = vec4<f32>();
            if (params.given != 0u) {
                other = given[start + i];
            } else {
                other = drawn(row, i);
            }
            if (params.root != 0u) {
                s = s * sqrt(max(1.0 - share, 0.0)) + other * sqrt(share);
            } else {
                s = s * (1.0 - share) + other * share;
            }
        }
        state[start + i] = s;
    }
}
