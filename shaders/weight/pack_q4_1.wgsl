fn packed_of(v: Values) -> Packed {
    var low = v[0];
    var high = v[0];
    for (var q = 1u; q < 8u; q += 1u) {
        low = min(low, v[q]);
        high = max(high, v[q]);
    }
    let least = min(min(low.x, low.y), min(low.z, low.w));
    let most = max(max(high.x, high.y), max(high.z, high.w));
    let factor = f16_bits((most - least) * (4096.0 / 15.0));
    let minimum = f16_bits(least * 4096.0);
    var packed: Packed;
    packed.factor = factor | (minimum << 16u);
    packed.units[0] = nibbles_of(v, unpack2x16float(minimum).x * 0.000244140625, inverse_of(factor), 0.0);
    return packed;
}
