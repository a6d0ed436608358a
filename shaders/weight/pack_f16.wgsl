fn two_halves(v: vec2<f32>) -> u32 {
    return f16_bits(v.x) | (f16_bits(v.y) << 16u);
}

fn packed_of(v: Values) -> Packed {
    var packed: Packed;
    for (var u = 0u; u < 4u; u += 1u) {
        let a = v[2u * u];
        let b = v[2u * u + 1u];
        packed.units[u] = vec4(two_halves(a.xy), two_halves(a.zw), two_halves(b.xy), two_halves(b.zw));
    }
    return packed;
}
