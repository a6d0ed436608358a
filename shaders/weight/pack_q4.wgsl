// The value of largest magnitude becomes -8, as in ggml: of the 16 numbers, one more is below zero than above.
fn packed_of(v: Values) -> Packed {
    let most = largest_of(v);
    var signed = 0.0;
    for (var i = 32u; i > 0u; i -= 1u) {
        let value = v[(i - 1u) / 4u][(i - 1u) % 4u];
        if (abs(value) == most) {
            signed = value;
        }
    }
    var packed: Packed;
    packed.factor = f16_bits(signed * (4096.0 / -8.0));
    packed.units[0] = nibbles_of(v, 0.0, inverse_of(packed.factor), 8.0);
    return packed;
}
