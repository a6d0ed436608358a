fn packed_of(v: Values) -> Packed {
    var packed: Packed;
    packed.factor = f16_bits(largest_of(v) * (4096.0 / 127.0));
    let inverse = inverse_of(packed.factor);
    for (var q = 0u; q < 8u; q += 1u) {
        let n = numbers_of(v[q], 0.0, inverse, 128.0, 1.0, 255.0);
        packed.units[q / 4u][q % 4u] = n.x | (n.y << 8u) | (n.z << 16u) | (n.w << 24u);
    }
    return packed;
}
