override WG: u32;

fn lanes_at_work() -> u32 {
    return WG;
}

fn total_over_lanes(at: Lane, v: vec2<f32>) -> vec2<f32> {
    return reduce_sum4(at, vec4(v, 0.0, 0.0)).xy;
}

// Largest magnitude as bits: these have the order of the values, and those of NaN are larger than those of any number.
fn largest_bits(v: Values) -> u32 {
    var most = vec4<u32>();
    for (var q = 0u; q < 8u; q += 1u) {
        most = max(most, bitcast<vec4<u32>>(v[q]) & vec4(0x7fffffffu));
    }
    return max(max(most.x, most.y), max(most.z, most.w));
}

// One workgroup rounds one row, each lane one block of 32 at a time. A block is scaled to near 1 by a power of two, so that its factor fits f16 whatever its
// magnitude.
fn run(at: Lane) {
    let m = at.group.x;
    if (rows[m].live == 0u) {
        return;
    }
    let whole = factor_in(at, m);
    let start = line(m);
    let blocks = (params.chunks + 3u) / 4u;
    for (var b = at.index; b < blocks; b += WG) {
        var v: Values;
        for (var q = 0u; q < 8u; q += 1u) {
            v[q] = quad(start, 8u * b + q);
        }
        let largest = largest_bits(v);
        let exponent = clamp(largest >> 23u, 1u, 253u);
        let near_one = bitcast<f32>((254u - exponent) << 23u);
        let half = f16_bits(bitcast<f32>(largest) * near_one * (4096.0 / 127.0));
        let inverse = inverse_of(half);
        var total = 0u;
        for (var c = 0u; c < 4u; c += 1u) {
            let lo = numbers_of(v[2u * c] * near_one, 0.0, inverse, 128.0, 1.0, 255.0);
            let hi = numbers_of(v[2u * c + 1u] * near_one, 0.0, inverse, 128.0, 1.0, 255.0);
            let all = lo + hi;
            total += all.x + all.y + all.z + all.w;
            // Signed instead of 128 more.
            let words = words_of(lo, hi) ^ vec2(0x80808080u);
            let place = 2u * (m * blocks + b) + c / 2u;
            if ((c & 1u) == 0u) {
                numbers[place].x = words.x;
                numbers[place].y = words.y;
            } else {
                numbers[place].z = words.x;
                numbers[place].w = words.y;
            }
        }
        var scale = unpack2x16float(half).x * 0.000244140625 * bitcast<f32>(exponent << 23u);
        if (largest >= 0x7f800000u) {
            // NaN and infinity propagate.
            scale = bitcast<f32>(largest);
        }
        scale *= whole;
        factors[m * blocks + b] = vec2(scale, scale * (f32(total) - 4096.0));
    }
}
