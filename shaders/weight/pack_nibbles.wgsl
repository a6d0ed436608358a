fn nibbles_of(v: Values, low: f32, inverse: f32, shift: f32) -> vec4<u32> {
    var unit: vec4<u32>;
    for (var q = 0u; q < 8u; q += 1u) {
        let n = numbers_of(v[q], low, inverse, shift, 0.0, 15.0);
        let bits = n.x | (n.y << 4u) | (n.z << 8u) | (n.w << 12u);
        unit[q / 2u] |= bits << (q % 2u * 16u);
    }
    return unit;
}
