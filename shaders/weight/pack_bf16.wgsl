fn packed_of(v: Values) -> Packed {
    var packed: Packed;
    for (var u = 0u; u < 4u; u += 1u) {
        packed.units[u] = bf16_of_eight(Eight(v[2u * u], v[2u * u + 1u]));
    }
    return packed;
}
