// Rounds to nearest, ties to even, for values below 65504. Done by hand, because pack2x16float may round either way. Below the normal range, adding 0.5 leaves
// exactly the bits of a subnormal.
fn f16_bits(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if (size < 0x38800000u) {
        return sign | (bitcast<u32>(bitcast<f32>(size) + 0.5) - 0x3f000000u);
    }
    return sign | ((size - 0x38000000u + 0xfffu + ((size >> 13u) & 1u)) >> 13u);
}
