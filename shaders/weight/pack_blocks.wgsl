// 4096 / factor for a factor in f16 as stored, rounded to nearest, ties to even; 0 for a block of zeros. A device's own division may be wrong in the last bits,
// which changes one number in thousands; whole numbers are exact everywhere.
fn inverse_of(factor: u32) -> f32 {
    let size = factor & 0x7fffu;
    if (size == 0u) {
        return 0.0;
    }
    // The factor is m · 2^(exponent - 25) with 11 bits in m.
    let fraction = (size & 0x3ffu) | select(0u, 0x400u, size >= 0x400u);
    let up = countLeadingZeros(fraction) - 21u;
    let m = fraction << up;
    let exponent = max(i32(size >> 10u), 1) - i32(up);
    // 2^34 / m has 24 bits. 2^34 does not fit a word, so the last three bits come from a second division.
    let coarse = 0x80000000u / m;
    let rest = (0x80000000u % m) * 8u;
    let left = rest % m;
    var q = coarse * 8u + rest / m;
    if (2u * left > m || (2u * left == m && (q & 1u) == 1u)) {
        q += 1u;
    }
    // 4096 / (m · 2^(exponent - 25)) is q · 2^(3 - exponent).
    let power = bitcast<f32>(u32(130 - exponent) << 23u);
    return select(f32(q) * power, -f32(q) * power, (factor & 0x8000u) != 0u);
}

// Whole numbers, rounded to nearest, ties to even. Rounding comes before the shift, so that no compiler can fuse the product and the sum.
fn numbers_of(v: vec4<f32>, low: f32, inverse: f32, shift: f32, least: f32, most: f32) -> vec4<u32> {
    return vec4<u32>(clamp(round((v - low) * inverse) + shift, vec4(least), vec4(most)));
}
