// Number of tokens with at least each of 16 probabilities, and the sums of their probabilities.
struct Tally {
    counts: mat4x4<f32>,
    masses: mat4x4<f32>,
}

fn tally(at: Lane, start: u32, floors: mat4x4<f32>) -> Tally {
    var a = vec4<f32>();
    var b = vec4<f32>();
    var c = vec4<f32>();
    var d = vec4<f32>();
    var e = vec4<f32>();
    var f = vec4<f32>();
    var g = vec4<f32>();
    var h = vec4<f32>();
    for (var v = at.index; v < params.vocab; v += WG) {
        let p = vec4(probs[start + v]);
        a += select(vec4(0.0), vec4(1.0), p >= floors[0]);
        b += select(vec4(0.0), vec4(1.0), p >= floors[1]);
        c += select(vec4(0.0), vec4(1.0), p >= floors[2]);
        d += select(vec4(0.0), vec4(1.0), p >= floors[3]);
        e += select(vec4(0.0), p, p >= floors[0]);
        f += select(vec4(0.0), p, p >= floors[1]);
        g += select(vec4(0.0), p, p >= floors[2]);
        h += select(vec4(0.0), p, p >= floors[3]);
    }
    let counts = mat4x4(reduce_sum4(at, a), reduce_sum4(at, b), reduce_sum4(at, c), reduce_sum4(at, d));
    let masses = mat4x4(reduce_sum4(at, e), reduce_sum4(at, f), reduce_sum4(at, g), reduce_sum4(at, h));
    return Tally(counts, masses);
}

// The largest p for which the tokens with probability p or more number at least `count` and sum to at least `mass`; 0 if there is no such p. The bits of
// positive floats are ordered like the floats, so a search over bits ends at an exact value. Each iteration reads the whole vocabulary, so it tests 16 values
// at once: 8 iterations instead of the 30 of a bisection.
fn threshold(at: Lane, start: u32, largest: f32, count: f32, mass: f32) -> f32 {
    var low = 0u;
    var high = bitcast<u32>(largest) + 1u;
    while (high - low > 1u) {
        let step = (high - low + 15u) / 16u;
        let quads = vec4(low) + vec4(1u, 2u, 3u, 4u) * step;
        let far = vec4(4u * step);
        let floors = mat4x4(
            bitcast<vec4<f32>>(quads),
            bitcast<vec4<f32>>(quads + far),
            bitcast<vec4<f32>>(quads + 2u * far),
            bitcast<vec4<f32>>(quads + 3u * far),
        );
        let found = tally(at, start, floors);
        // If the condition holds for one value, it holds for all smaller ones.
        var steps = 0u;
        for (var i = 0u; i < 4u; i += 1u) {
            let holds = found.counts[i] >= vec4(count) & found.masses[i] >= vec4(mass);
            let places = quads + i * far < vec4(high);
            steps += countOneBits(dot(select(vec4(0u), vec4(1u, 2u, 4u, 8u), holds & places), vec4(1u)));
        }
        low += steps * step;
        high = min(low + step, high);
    }
    return bitcast<f32>(low);
}
