fn packed_of(v: Values) -> Packed {
    var packed: Packed;
    for (var u = 0u; u < 8u; u += 1u) {
        packed.units[u] = bitcast<vec4<u32>>(v[u]);
    }
    return packed;
}
