// Inverse error function by Giles' single-precision approximation.
fn erfinv(x: f32) -> f32 {
    var w = -log((1.0 - x) * (1.0 + x));
    var p: f32;
    if (w < 5.0) {
        w -= 2.5;
        p = 2.81022636e-08;
        p = 3.43273939e-07 + p * w;
        p = -3.5233877e-06 + p * w;
        p = -4.39150654e-06 + p * w;
        p = 0.00021858087 + p * w;
        p = -0.00125372503 + p * w;
        p = -0.00417768164 + p * w;
        p = 0.246640727 + p * w;
        p = 1.50140941 + p * w;
    } else {
        w = sqrt(w) - 3.0;
        p = -0.000200214257;
        p = 0.000100950558 + p * w;
        p = 0.00134934322 + p * w;
        p = -0.00367342844 + p * w;
        p = 0.00573950773 + p * w;
        p = -0.0076224613 + p * w;
        p = 0.00943887047 + p * w;
        p = 1.00167406 + p * w;
        p = 2.83297682 + p * w;
    }
    return p * x;
}

// Standard normal number, truncated to the central range that holds the share `mass` of the distribution: the inverse distribution function at a uniform
// number.
fn normal_within(mass: f32, bits: u32) -> f32 {
    return 1.41421356 * erfinv(mass * (2.0 * unit(bits) - 1.0));
}

// Numbers of one quad of the row that a key belongs to.
fn normals_within(mass: f32, key: vec2<u32>, quad: u32) -> vec4<f32> {
    let bits = vec4(threefry(key, vec2(2u * quad, 0u)), threefry(key, vec2(2u * quad + 1u, 0u)));
    return vec4(
        normal_within(mass, bits.x),
        normal_within(mass, bits.y),
        normal_within(mass, bits.z),
        normal_within(mass, bits.w),
    );
}
