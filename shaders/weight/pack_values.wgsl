alias Values = array<vec4<f32>, 8>;

struct Packed {
    units: array<vec4<u32>, UNITS>,
    factor: u32,
}

fn largest_of(v: Values) -> f32 {
    var most = vec4<f32>();
    for (var q = 0u; q < 8u; q += 1u) {
        most = max(most, abs(v[q]));
    }
    return max(max(most.x, most.y), max(most.z, most.w));
}
