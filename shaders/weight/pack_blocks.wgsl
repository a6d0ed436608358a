fn largest_of(v: Values) -> f32 {
    var most = vec4<f32>();
    for (var q = 0u; q < 8u; q += 1u) {
        most = max(most, abs(v[q]));
    }
    return max(max(most.x, most.y), max(most.z, most.w));
}

// What to multiply by, given a factor as it is stored; 0 for a block of zeros.
fn inverse_of(factor: u32) -> f32 {
    let v = unpack2x16float(factor).x;
    return select(4096.0 / v, 0.0, v == 0.0);
}

// Whole numbers, nearest, ties to even.
fn numbers_of(v: vec4<f32>, low: f32, inverse: f32, shift: f32, least: f32, most: f32) -> vec4<u32> {
    return vec4<u32>(clamp(round((v - low) * inverse + shift), vec4(least), vec4(most)));
}
